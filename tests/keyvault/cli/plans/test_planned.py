"""A plan as it is printed, and how it is divided into requests."""

from __future__ import annotations

import json

import pytest

from keyvault.cli import planned, planned_words
from keyvault.cli.declared import DeclaredKey

pytestmark = pytest.mark.django_db(transaction=True)


def planned_of(name: str, **use) -> planned.Planned:
    key = {
        "title": "x",
        "labels": [],
        "allowed_hosts": ["a.example"],
        "volume_per_day": 1,
        "delivery_mode": "pull",
    }
    declared = DeclaredKey(name, 1, None, use)
    [found] = planned.plan([declared], {name: planned.Seen(key, "etag")}).keys
    return found


def test_colours_tell_what_comes_and_goes_and_no_text_steers():
    one = planned_of("key-a", labels=("ai", "\x1b[2J"), allowed_hosts=())

    plain = list(planned_words.lines(planned.Plan([one]), coloured=False))
    painted = list(planned_words.lines(planned.Plan([one]), coloured=True))

    assert not [line for line in plain if "\x1b" in line]
    assert any(line.startswith("\x1b[31m  - allowed hosts") for line in painted)
    assert any(line.startswith("\x1b[32m  + labels") for line in painted)
    assert any("any host from then on" in line for line in plain)
    assert not [line for line in painted if "\x1b[2J" in line]


def test_a_dependent_that_is_registered_anew_is_told_what_it_loses():
    row = {"agent": None, "health": "probed", "wave": 0, "cache_s": 0, "connection": None}
    rows = [
        row | {"name": name, "is_discovered": False, "probe": {"address": "https://a.example"}}
        for name in ("Kept", "Moved", "Gone")
    ]
    wanted = tuple(
        {"name": name, "agent": "", "health": "probed", "wave": wave, "cache_s": 0}
        for name, wave in (("Kept", 0), ("Moved", 1))
    )
    key = {"title": "x"}
    declared = DeclaredKey("key-a", 1, dependents=wanted)

    found = planned.plan([declared], {"key-a": planned.Seen(key, "etag", rows)})

    lost = "(the approved address to ask ends)"
    assert list(planned_words.lines(found, coloured=False))[1:3] == [
        f"  ~ dependent  Moved: it is asked, wave 1; was it is asked, wave 0 {lost}",
        f"  - dependent  Gone: it is asked, wave 0 {lost}",
    ]


def test_a_file_becomes_as_few_requests_as_the_server_takes():
    many = [planned_of(f"key-{number}", volume_per_day=7) for number in range(450)]
    long = [
        planned_of(f"key-{number}", allowed_hosts=tuple(f"h{n}.example" for n in range(100)))
        for number in range(200)
    ]

    assert [len(batch) for batch in planned.calls(many)] == [200, 200, 50]
    batches = list(planned.calls(long))
    assert len(batches) > 1
    assert sum(len(batch) for batch in batches) == 200
    for batch in batches:
        body = json.dumps({"keys": [planned.body_of(one) for one in batch]})
        assert len(body) < 262_144
        assert body.count(",") + body.count(":") < 12_000
