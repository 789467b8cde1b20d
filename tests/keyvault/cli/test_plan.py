"""`keyvault plan` and `keyvault apply`, as commands of their own before a server that is the real one."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from approvals.models import Request
from approvals.policy import matching
from keyvault.api import limits
from keyvault.audit.models import Event
from keyvault.cli import planned, planned_words
from keyvault.cli.codes import Exit
from keyvault.cli.declared import DeclaredKey
from keyvault.dependents.models import Dependent
from keyvault.inventory.models import Key
from keyvault.launcher.installation import ROOT
from tests.keyvault.actions.conftest import _registry, fake, house
from tests.keyvault.agents import builders
from tests.keyvault.gateway.builders import until

__all__ = ["_registry", "fake", "house"]

pytestmark = pytest.mark.django_db(transaction=True)
BOUND_S = 60
HERE, THERE = "ledger-reader", "orders-reader"
WHY = ("--yes", "--reason", "Reviewed in 42.")
FILE = f"""
[keys.{HERE}]
title = "The ledger"
labels = ["ai", "billing"]
volume_per_day = 5

[[keys.{HERE}.dependents]]
name = "refund-bot"
agent = "refund-bot"
wave = 1

[keys.{THERE}]
labels = ["ai"]
"""


@dataclass
class Desk:
    """Where somebody keeps keys as code: a file, a token, and the command."""

    home: Path
    env: dict[str, str]
    started: list[subprocess.Popen] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.home / "keys.toml"

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "keyvault.cli", *arguments],
            env=self.env,
            **{**pipes, **options},
        )
        self.started.append(process)
        return process

    def run(self, command: str, *arguments: str, file: str = FILE, code: int = 0) -> str:
        """Run the command over a file, and return what it printed: of a failure what it complained."""
        limits.buckets.clear()
        self.file.write_text(file)
        process = self.start(command, str(self.file), *arguments, text=True)
        out, err = process.communicate(timeout=BOUND_S)
        assert process.returncode == code, out + err
        self.out = out
        return err or out

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=BOUND_S)


@pytest.fixture
def desk_of(house, live_server, settings, tmp_path):
    """Return a function that gives the desk of a person or an agent."""
    settings.PUBLIC_URL = live_server.url
    desks = []

    def of(holder) -> Desk:
        token = builders.token(house.cast, holder).text.reveal().decode()
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        desk = Desk(tmp_path, env | {"KEYVAULT_URL": live_server.url, "KEYVAULT_TOKEN": token})
        desks.append(desk)
        return desk

    yield of
    for desk in desks:
        desk.close()


@pytest.fixture
def readers(house) -> list[Key]:
    builders.agent(house.cast)
    return [house.pull(name=name) for name in (HERE, THERE)]


@pytest.fixture
def desk(house, desk_of, readers) -> Desk:
    return desk_of(house.cast.alice)


def approve(house) -> None:
    for row in Request.objects.filter(state="pending"):
        house.say(house.cast.bob, row)
    house.work()


def events() -> int:
    return Event.objects.exclude(event__startswith="token.").count()


def test_a_plan_shows_what_differs_and_changes_nothing(desk):
    before = events()

    told = desk.run("plan", code=9)

    assert told.splitlines() == [
        HERE,
        "  ~ title        Ledger reader -> The ledger",
        "  ~ calls a day  1000 -> 5  (by policy)",
        "  + labels       ai  (by policy)",
        "  + labels       billing  (by policy)",
        "  + dependent    refund-bot: agent refund-bot, by its reads, wave 1",
        THERE,
        "  + labels  ai  (by policy)",
        "5 changes to 2 keys: 2 at once, 3 that policy decides about.",
        f"This is a plan; nothing was changed. Then: keyvault apply {desk.file}",
    ]
    assert events() == before
    assert Key.objects.get(name=HERE).title == "Ledger reader"


def test_programs_get_a_plan_as_json(desk):
    found = json.loads(desk.run("plan", "--json", code=9))

    assert found["changes"] == 5
    first, second = found["keys"]
    assert (first["key"], second["key"], second["waits"]) == (HERE, THERE, None)
    assert second["changes"] == [
        {"sign": "~", "field": "labels", "now": [], "then": ["ai"], "how": "by policy", "note": ""}
    ]


def test_it_is_applied_with_one_request_and_then_there_is_nothing_to_do(house, desk):
    told = desk.run("apply", *WHY)

    assert f"changed {HERE}: title" in told
    assert Key.objects.get(name=HERE).title == "The ledger"
    [bot] = Dependent.objects.filter(ended_at=None)
    assert (bot.name, bot.wave, bot.health) == ("refund-bot", 1, "reads")
    [row] = Request.objects.filter(kind__startswith="key.change")
    assert (row.kind, row.reason) == ("key.change_many", "Reviewed in 42.")
    assert row.label in told
    assert f"keyvault request show {row.label} --wait" in told
    approve(house)
    assert desk.run("plan") == "Nothing to do: everything is as declared.\n"
    assert desk.run("apply") == "Nothing to do: everything is as declared.\n"
    assert Key.objects.get(name=HERE).labels == ["ai", "billing"]


def test_applied_twice_it_files_nothing_twice(desk):
    desk.run("apply", *WHY)
    before = events()

    planned_again = desk.run("plan", code=9)
    told = desk.run("apply", "--yes")

    [row] = Request.objects.filter(kind__startswith="key.change")
    assert planned_again.count(f"{row.label} asks for this already") == 2
    assert f"{row.label} asks for a part of this already; it was not asked again." in told
    assert events() == before


def test_what_comes_to_the_file_later_is_asked_for_by_itself(house, desk):
    desk.run("apply", *WHY, file=f"[keys.{HERE}]\nlabels = ['ai']\n")

    desk.run(
        "apply", *WHY, file=f"[keys.{HERE}]\nlabels = ['ai']\n[keys.{THERE}]\nlabels = ['ai']\n"
    )

    rows = Request.objects.filter(kind__startswith="key.change").order_by("number")
    assert [(row.kind, row.subject_label) for row in rows] == [
        ("key.change", HERE),
        ("key.change", THERE),
    ]


def test_another_change_that_waits_is_named_with_the_way_out(desk):
    desk.run("apply", *WHY, file=f"[keys.{HERE}]\nlabels = ['ai']\n")
    row = Request.objects.get(kind="key.change")

    said = desk.run("apply", *WHY, file=f"[keys.{HERE}]\nlabels = ['other']\n", code=4)

    assert f"A change of {HERE} has been asked already." in said
    assert f"keyvault request withdraw {row.pk}" in said
    process = desk.start("request", "withdraw", str(row.pk), text=True)
    process.communicate(timeout=BOUND_S)
    desk.run("apply", *WHY, file=f"[keys.{HERE}]\nlabels = ['other']\n")


def test_what_waited_for_is_done_ends_with_0(house, desk):
    desk.file.write_text(FILE)
    process = desk.start("apply", str(desk.file), *WHY, "--wait", text=True)
    until(lambda: Request.objects.filter(kind="key.change_many").exists(), BOUND_S)
    approve(house)
    out, err = process.communicate(timeout=BOUND_S)

    assert process.returncode == Exit.DONE, out + err
    assert "done" in out


def test_what_waited_for_is_rejected_ends_with_4(house, desk):
    desk.run("apply", *WHY)
    house.say(house.cast.bob, Request.objects.get(kind="key.change_many"), "reject")
    desk.run("apply", *WHY)
    process = desk.start("apply", str(desk.file), "--yes", "--wait", text=True)
    time_over = desk.start("apply", str(desk.file), "--yes", "--wait", "--timeout", "1", text=True)
    out, err = time_over.communicate(timeout=BOUND_S)
    house.say(house.cast.bob, Request.objects.get(state="pending"), "reject")
    process.communicate(timeout=BOUND_S)

    assert time_over.returncode == Exit.TIME_OVER, out + err
    assert process.returncode == Exit.REFUSED


def test_a_change_made_elsewhere_meanwhile_is_not_written_over(house, desk):
    """The command is held at its question while somebody else renames the key."""
    screen, theirs = os.openpty()
    desk.file.write_text(FILE)
    process = desk.start(
        "apply",
        str(desk.file),
        *WHY[1:],
        stdin=theirs,
        text=True,
    )
    said = ""
    while "[y/N]" not in said:
        assert select.select([process.stderr], [], [], BOUND_S)[0], said
        said += os.read(process.stderr.fileno(), 4096).decode()
    Key.objects.filter(name=HERE).update(title="Theirs")
    os.write(screen, b"y\n")
    out, err = process.communicate(timeout=BOUND_S)
    os.close(screen)
    os.close(theirs)

    assert process.returncode == Exit.REFUSED, out + err
    assert f"{HERE} has changed since. Nothing of it was written over." in err
    assert f"keyvault plan {desk.file}" in err
    assert Key.objects.get(name=HERE).title == "Theirs"
    assert not Request.objects.filter(kind__startswith="key.change").exists()


def test_a_person_who_says_no_changes_nothing(desk):
    screen, theirs = os.openpty()
    desk.file.write_text(FILE)
    before = events()
    process = desk.start(
        "apply",
        str(desk.file),
        *WHY[1:],
        stdin=theirs,
        text=True,
    )
    os.write(screen, b"\n")
    out, err = process.communicate(timeout=BOUND_S)
    os.close(screen)
    os.close(theirs)

    assert (process.returncode, "Nothing was changed." in err) == (1, True), out + err
    assert "~ title" in out
    assert events() == before


def test_a_use_that_changed_meanwhile_is_refused_with_what_was_done(desk, readers, monkeypatch):
    """Somebody asks and gets other labels after the file was compared and before it is asked."""
    from keyvault.api import dependents

    plain = dependents.declared.replace

    def slow(**more):
        made = plain(**more)
        Key.objects.filter(name=THERE).update(labels=["theirs"])
        return made

    monkeypatch.setattr(dependents.declared, "replace", slow)

    said = desk.run("apply", *WHY, code=4)

    assert f"{THERE} has changed since." in said
    assert f"Done before that: {HERE}: title, {HERE}: dependents." in said
    assert not Request.objects.filter(kind__startswith="key.change").exists()


def test_policies_that_cannot_judge_at_once_get_a_request_each(desk, monkeypatch):
    plain = matching._combinations

    def few(attributes, named):
        if "key.change_many" in attributes["kind"]:
            raise matching.BadPolicy("Too many.")
        return plain(attributes, named)

    monkeypatch.setattr(matching, "_combinations", few)

    told = desk.run("apply", *WHY)

    assert "each is a request of its own" in told
    rows = Request.objects.filter(kind="key.change")
    assert sorted(row.subject_label for row in rows) == [HERE, THERE]
    assert all(row.label in told for row in rows)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("[keys.ledger-raeder]\n", f"1: ledger-raeder: there is no key of this name for you. Did you mean {HERE}?"),
        (f"[keys.{HERE}]\ndependents = [{{name = 'x', agent = 'refund-bto'}}]\n", "there is no agent refund-bto for you. Did you mean refund-bot?"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_said_with_the_nearest(desk, file, said):
    assert said in desk.run("plan", file=file, code=4)


def test_who_may_only_look_is_told_so_before_anything_is_asked(house, desk_of, readers):
    said = desk_of(house.cast.carol).run("plan", code=4)

    assert f"{HERE}: you may not have it changed." in said
    assert f"{HERE}: you may not have it rotated, so its dependents are not yours to say." in said


def test_an_agent_plans_nothing_for_others(house, desk_of, readers):
    bot = house.cast.alice.owned_agents.get(name="refund-bot")
    builders.granted(house.cast, bot, readers[0])

    said = desk_of(bot).run("plan", file=f"[keys.{HERE}]\ndependents = []\n", code=4)

    assert "you may not have it rotated" in said


def test_a_revoked_key_is_to_be_taken_out(desk, house, readers):
    house.say(house.cast.bob, house.revoke(readers[1]))
    house.work()

    assert f"{THERE}: it was revoked. Take it out of the file." in desk.run("plan", code=4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--yes",), "--reason WHY"),
        (("--reason", "x"), "Say --yes"),
        (("--reason", "x", "--json"), "Say --yes"),
        (("--timeout", "0"), "--timeout takes"),
    ],
)
def test_what_cannot_be_asked_here_is_wrong_usage_and_changes_nothing(desk, arguments, said):
    before = events()

    assert said in desk.run("apply", *arguments, code=2)
    assert events() == before


def test_programs_get_what_was_done_as_json(desk):
    found = json.loads(desk.run("apply", *WHY, "--json"))

    assert found["changed"] == [f"{HERE}: title", f"{HERE}: dependents"]
    [row] = found["requests"]
    assert row["label"] == Request.objects.get(kind="key.change_many").label
    assert set(row) == {"id", "label", "state", "page"}


def test_who_was_only_seen_is_registered_and_then_there_is_nothing_to_do(desk, house, readers):
    from django.db import transaction

    from keyvault.dependents import services as dependents

    bot = house.cast.alice.owned_agents.get(name="refund-bot")
    with transaction.atomic():
        dependents.register(
            key=readers[0],
            name="refund-bot",
            agent_id=bot.pk,
            health="reads",
            is_discovered=True,
            now=house.now,
            actor=builders.TESTS,
        )
    file = f"[keys.{HERE}]\ndependents = [{{name = 'refund-bot', agent = 'refund-bot'}}]\n"

    told = desk.run("plan", file=file, code=9)
    desk.run("apply", "--yes", file=file)

    assert "+ dependent  refund-bot: agent refund-bot" in told
    assert "Nothing to do" in desk.run("plan", file=file)


def test_a_plan_waits_where_it_calls_too_often(desk, monkeypatch):
    """A file of many keys has more calls than a caller may make at once."""
    monkeypatch.setattr(limits, "PRINCIPAL", limits.Rate(per_s=1, burst=1))

    desk.run("plan", code=9)


def test_a_file_is_applied_to_its_end_where_it_calls_too_often(desk, monkeypatch):
    """What was changed is read anew by the next try, which would come no further."""
    monkeypatch.setattr(limits, "PRINCIPAL", limits.Rate(per_s=1, burst=1))

    told = desk.run("apply", *WHY)

    assert f"changed {HERE}: dependents" in told
    assert Request.objects.filter(kind="key.change_many").count() == 1


# --- what is printed and how it is divided --------------------------------------------------


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
