"""`keyvault apply`, as a command of its own before a server that is the real one."""

from __future__ import annotations

import json
import os
import select

import pytest

from approvals.models import Request
from approvals.policy import matching
from keyvault.api import limits
from keyvault.cli.codes import Exit
from keyvault.dependents.models import Dependent
from keyvault.inventory.models import Key
from tests.keyvault.cli.plans.conftest import BOUND_S, FILE, HERE, THERE, WHY, approve, events
from tests.keyvault.gateway.builders import until

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_a_file_is_applied_to_its_end_where_it_calls_too_often(desk, monkeypatch):
    """What was changed is read anew by the next try, which would come no further."""
    monkeypatch.setattr(limits, "PRINCIPAL", limits.Rate(per_s=1, burst=1))

    told = desk.run("apply", *WHY)

    assert f"changed {HERE}: dependents" in told
    assert Request.objects.filter(kind="key.change_many").count() == 1
