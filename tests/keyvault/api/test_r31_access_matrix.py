"""R31 and R32: every operation of the document, by every role, on own, foreign and deleted things.

The cells come from the document, so that an operation that is added later is
in the matrix at once, and fails it until its cells are named here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from approvals import services
from keyvault.accounts import services as accounts
from keyvault.accounts.selectors import team_by_slug as accounts_of
from keyvault.agents.models import AccessToken
from keyvault.api import document, limits, urls
from keyvault.dependents import services as dependents
from keyvault.inventory import selectors
from keyvault.inventory.models import Key
from keyvault.leases import services as services_of_leases
from keyvault.rotation import batches
from keyvault.rotation import services as rotation
from tests import cast as people
from tests.keyvault.agents import builders
from tests.keyvault.api.conftest import Caller
from tests.keyvault.api.test_requests import creation
from tests.keyvault.connections import conftest as connections
from tests.keyvault.connections import fakes
from tests.keyvault.vault import rows

pytestmark = pytest.mark.django_db
ROLES = (
    "alice",
    "bob",
    "carol",
    "dave",
    "frank",
    "mallory",
    "own agent",
    "other agent",
    "nobody",
    "expired",
)
PEOPLE = {"alice", "bob", "carol", "dave", "frank", "mallory"}
LOOKERS = {"alice", "carol", "dave", "frank"}  # Owner, team and backup, auditor, administrator.
STRANGERS = {"nobody", "expired"}
DEPLOY_ID = "d-1"
THINGS = ("own", "foreign", "deleted", "missing")

# Who gets 2xx, for each operation and thing; every other cell is a refusal. "own" is alice's
# and her team's, "foreign" is mallory's, "deleted" was given up before it lived.
ALLOWED = {
    ("listKeys", "-"): set(ROLES) - STRANGERS,
    ("listAgents", "-"): set(ROLES) - STRANGERS,
    ("listRequests", "-"): set(ROLES) - STRANGERS,
    ("listEvents", "-"): {"dave"},
    ("listConnections", "-"): {"dave", "frank"},
    # Whoever is in the team brings keys for themselves; what they may not own is refused.
    ("importKeys", "own"): {"alice", "carol"},
    ("importKeys", "foreign"): {"mallory"},
    ("getKey", "own"): LOOKERS | {"own agent"},
    ("getKey", "foreign"): {"mallory", "dave", "frank", "other agent"},
    ("listVersions", "own"): LOOKERS | {"own agent"},
    ("listVersions", "foreign"): {"mallory", "dave", "frank", "other agent"},
    ("getKeyUsage", "own"): LOOKERS | {"own agent"},
    ("getKeyUsage", "foreign"): {"mallory", "dave", "frank", "other agent"},
    # Whoever may use or see the value reports its use; to see the key is not enough.
    ("reportUsage", "own"): {"alice", "own agent"},
    ("reportUsage", "foreign"): {"mallory", "other agent"},
    ("getAgent", "own"): LOOKERS | {"own agent"},
    ("getAgent", "foreign"): {"mallory", "dave", "frank", "other agent"},
    # bob decides about it, carol stands in for the owner, auditors and administrators look.
    ("getRequest", "own"): {"alice", "bob", "carol", "dave", "frank", "own agent"},
    ("getRequest", "foreign"): {"mallory", "bob", "dave", "frank"},
    ("getRequest", "deleted"): {"alice", "dave", "frank"},
    ("reviseRequest", "own"): {"alice"},
    ("reviseRequest", "foreign"): {"mallory"},
    ("withdrawRequest", "own"): {"alice", "own agent"},
    ("withdrawRequest", "foreign"): {"mallory"},
    ("withdrawRequest", "deleted"): {"alice"},
    ("listComments", "own"): {"alice", "bob", "carol", "dave", "frank", "own agent"},
    ("listComments", "foreign"): {"mallory", "bob", "dave", "frank"},
    ("listComments", "deleted"): {"alice", "dave", "frank"},
    # Whoever sees a request on the console may write about it there; agents and auditors only read.
    ("createComment", "own"): {"alice", "bob", "carol", "frank"},
    ("createComment", "foreign"): {"mallory", "bob", "frank"},
    ("createComment", "deleted"): {"alice", "frank"},
    ("listRotations", "own"): LOOKERS | {"own agent"},
    ("listRotations", "foreign"): {"mallory", "dave", "frank", "other agent"},
    ("getRotation", "own"): LOOKERS | {"own agent"},
    ("getRotation", "foreign"): {"mallory", "dave", "frank", "other agent"},
    # Whoever may have the key rotated, and its agents in their name: the same deployment again.
    ("startRotation", "own"): {"alice", "frank", "own agent"},
    ("startRotation", "foreign"): {"mallory", "frank", "other agent"},
    # People who may have all of the keys rotated; who may see all of them follows the batch.
    ("startRotations", "own"): {"alice", "frank"},
    ("startRotations", "foreign"): {"mallory", "frank"},
    ("getRotationBatch", "own"): LOOKERS,
    ("getRotationBatch", "foreign"): {"mallory", "dave", "frank"},
    # Who asked for it, and who may have all of its keys rotated; the second finds it stopped.
    ("stopRotationBatch", "own"): {"alice", "frank"},
    ("stopRotationBatch", "foreign"): {"mallory", "frank"},
    # Only the dependent itself says what it has loaded.
    ("confirmVersion", "own"): {"own agent"},
    ("confirmVersion", "foreign"): {"other agent"},
    # Agents only, each its own; whoever reads the key's page sees its leases there.
    ("takeLease", "own"): {"own agent"},
    ("takeLease", "foreign"): {"other agent"},
    ("listLeases", "-"): {"own agent", "other agent"},
    ("getLease", "own"): {"own agent"},
    ("getLease", "foreign"): {"other agent"},
    ("renewLease", "own"): {"own agent"},
    ("renewLease", "foreign"): {"other agent"},
    ("returnLease", "own"): {"own agent"},
    ("returnLease", "foreign"): {"other agent"},
    ("listDependents", "own"): LOOKERS | {"own agent"},
    ("listDependents", "foreign"): {"mallory", "dave", "frank", "other agent"},
    ("replaceDependents", "own"): {"alice", "frank"},
    ("replaceDependents", "foreign"): {"mallory", "frank"},
    # Whoever may have the key changed; its agents only ask, in their name.
    ("renameKey", "own"): {"alice", "frank"},
    ("renameKey", "foreign"): {"mallory", "frank"},
    ("getLabels", "own"): LOOKERS | {"own agent"},
    ("getLabels", "foreign"): {"mallory", "dave", "frank", "other agent"},
    ("replaceLabels", "own"): {"alice", "frank", "own agent"},
    ("replaceLabels", "foreign"): {"mallory", "frank", "other agent"},
    ("changeKeys", "own"): {"alice", "frank"},
    ("changeKeys", "foreign"): {"mallory", "frank"},
    # By the body: whoever may revoke it asks it, and so does an agent that uses it.
    ("createRequest", "own"): {"alice", "frank", "own agent"},
    ("createRequest", "foreign"): {"mallory", "frank", "other agent"},
}
# What the first of a row does, the second finds done.
ONCE = {"createRequest", "changeKeys", "stopRotationBatch"}
# Seen and still refused: the thing is no secret to these, and the act is not theirs.
SEEN_AND_REFUSED = {403, 409}


@dataclass
class Land:
    """The things of the matrix by name, and who calls."""

    keys: dict[str, str]
    agents: dict[str, str]
    requests: dict[str, str]
    rotations: dict[str, str]
    batches: dict[str, str]
    leases: dict[str, str]
    callers: dict[str, Caller] = field(default_factory=dict)


@pytest.fixture
def land(house, as_) -> Land:
    """Return alice's things, those of mallory's own team, and what was given up."""
    cast = house.cast
    with transaction.atomic():
        accounts.create_team(slug="research", title="Research", now=cast.now, actor=builders.TESTS)
    people.join(cast.mallory, "research", now=cast.now - people.JOINED_AGO)
    research = accounts_of("research").group
    bot = builders.agent(cast, "own-bot")
    other = builders.agent(cast, "other-bot", owner=cast.mallory, backup_owner=None, team=research)
    own = house.pull(name="own-key")
    asked = house.ask(cast.mallory, name="foreign-key", team="research")
    house.say(cast.bob, asked)
    house.work()
    rotations, many, leases = {}, {}, {}
    where = rows.connection(cast, provider=fakes.install(fakes.Minter()).kind, slug="minter")
    connections.with_credential(where, cast.now)
    for thing, agent, key in (
        ("own", bot, own),
        ("foreign", other, selectors.by_request(asked.pk)),
    ):
        builders.granted(cast, agent, key)
        rotations[thing] = rotating(house, agent, key)
        many[thing] = batch(house, key)
        leases[thing] = lease(house, agent, key, where)
    gone = house.ask(name="gone-key")
    services.withdraw(request_id=gone.pk, person=cast.alice, now=cast.now)
    open_one = as_(bot).post("/requests", creation(name="asked-key")).json()["id"]
    theirs = house.ask(cast.mallory, name="their-key", team="research").pk
    callers = {name: as_(getattr(cast, name)) for name in PEOPLE}
    callers |= {"own agent": as_(bot), "other agent": as_(other), "nobody": Caller()}
    callers["expired"] = as_(cast.frank)
    AccessToken.objects.filter(public_id=callers["expired"].text.split("_")[1]).update(
        issued_at=cast.now - timedelta(hours=2), expires_at=cast.now - timedelta(hours=1)
    )
    return Land(
        keys={"own": "own-key", "foreign": "foreign-key", "deleted": "gone-key"},
        agents={"own": "own-bot", "foreign": "other-bot"},
        requests={"own": open_one, "foreign": str(theirs), "deleted": str(gone.pk)},
        rotations=rotations,
        batches=many,
        leases=leases,
        callers=callers,
    )


def rotating(house, agent, key) -> str:
    """Return the rotation of a key, begun by a deployment, with one dependent that reports."""
    more = {"now": house.now, "actor": builders.TESTS}
    with transaction.atomic():
        dependents.register(key=key, name=agent.name, agent_id=agent.pk, health="reports", **more)
        begun = rotation.begin(
            key_id=key.pk,
            trigger="ci",
            deploy_id=DEPLOY_ID,
            request_id=key.request_id,
            started_by="tests",
            **more,
        )
    return str(begun.pk)


def batch(house, key) -> str:
    """Return a batch of one key, asked for by its owner."""
    with transaction.atomic():
        made = batches.create(
            batch_id=uuid4(),
            key_ids=[key.pk],
            trigger="manual",
            reason="By the matrix.",
            request_id=uuid4(),
            person=key.owner,
            started_by="tests",
            actor=builders.TESTS,
            now=house.now,
        )
    return str(made.pk)


def lease(house, agent, key, where) -> str:
    """Return a lease that an agent holds, of a key beside its other one."""
    life = {"state": "live", "live_at": key.live_at, "expires_at": key.expires_at}
    lent = rows.key(house.cast, where, name=key.name.replace("-key", "-lent"), **life)
    Key.objects.filter(pk=lent.pk).update(owner=key.owner, backup_owner=None, team=key.team)
    builders.granted(house.cast, agent, lent)
    token = builders.token(house.cast, agent).token
    return str(services_of_leases.take(token=token, name=lent.name, now=house.now).lease.pk)


def things(path: str) -> tuple[str, ...]:
    lists = ("/requests", "/usage", "/imports", "/changes", "/api/v1/rotations", "/leases")
    by_body = path.endswith(lists)
    return THINGS if "{" in path or by_body else ("-",)


def cells():
    for path, method, operation in document.operations(urls.openapi()):
        about = things(path) if method != "get" or "{" in path else ("-",)
        for thing in about:
            yield operation["operationId"], method, path, thing


def places(land: Land) -> dict[str, dict[str, str]]:
    """Return the things by the part of an address that says what it is about."""
    return {
        "/keys/": land.keys,
        "/agents/": land.agents,
        "/batches/": land.batches,
        "/rotations/": land.rotations,
        "/leases/": land.leases,
        "/": land.requests,
    }


def _address(land: Land, path: str, thing: str) -> str | None:
    """Return the address of a cell, or None where there is no such thing."""
    missing = {"name": "missing-name"}
    of = next(of for part, of in places(land).items() if part in path)
    found = re.search(r"{(\w+)}", path)
    if found is None:
        return path
    if thing != "missing" and thing not in of:
        return None
    return path.replace(found[0], of.get(thing, missing.get(found[1], str(uuid4()))))


def _body(land: Land, operation: str, thing: str):
    name = land.keys.get(thing, "missing-name")
    bodies = {
        "importKeys": _import(thing),
        "reviseRequest": {"reason": "Another reason."},
        "createComment": {"text": "By the matrix."},
        "createRequest": {"kind": "key.revoke", "key": name, "reason": "By the matrix."},
        "reportUsage": {"events": [{"key": name, "at": timezone.now().isoformat()}]},
        "takeLease": {"key": name.replace("-key", "-lent")},
        "renewLease": {"ttl_seconds": 300},
        "startRotation": {"reason": "ci", "deploy_id": DEPLOY_ID},
        "startRotations": {"reason": "manual", "keys": [name]},
        "stopRotationBatch": {"reason": "By the matrix."},
        "confirmVersion": {"version": 1},
        "replaceDependents": {"dependents": []},
        "renameKey": {"title": "By the matrix"},
        "replaceLabels": {"labels": [], "reason": "By the matrix."},
        "changeKeys": {"keys": [{"key": name, "volume_per_day": 7}], "reason": "By the matrix."},
    }
    return bodies.get(operation)


def _import(thing: str):
    """Return a new value for the team of a thing; of a deleted or missing one there is none."""
    teams = {"own": "payments", "foreign": "research"}
    key = {
        "name": f"brought-{uuid4().hex[:8]}",
        "connection": "orders",
        "environment": "dev",
        "team": teams.get(thing, "no-team"),
        "value": f"sk-{uuid4()}",
    }
    return {"keys": [key], "reason": "By the matrix."}


def _call(land: Land, role: str, cell):
    operation, method, path, thing = cell
    address = _address(land, path, thing)
    if address is None:
        return None
    limits.buckets.clear()
    return land.callers[role].call(method.upper(), address, _body(land, operation, thing))


def _plain(answer, land: Land, thing: str) -> str:
    body = answer.json()
    body.pop("request_id")
    text = json.dumps(body)
    for of in places(land).values():
        text = text.replace(of.get(thing, "missing-name"), "missing-name")
    return text


@pytest.mark.parametrize("cell", list(cells()), ids=lambda cell: f"{cell[0]}-{cell[3]}")
def test_r31_only_the_allowed_cells_succeed_and_hidden_looks_missing(land, cell, record_property):
    operation, _method, _path, thing = cell
    allowed = ALLOWED.get((operation, thing), set())
    # Whoever may act comes last: the first success of a withdrawal would change what follows.
    tried, wrong = 0, []
    for role in sorted(ROLES, key=lambda role: role in allowed):
        answer = _call(land, role, cell)
        if answer is None:
            continue
        tried += 1
        is_in = answer.status_code < 300
        if operation in ONCE and role in allowed and answer.status_code == 409:
            is_in = True  # Somebody of the same row has done it already.
        if operation == "reportUsage" and is_in and not answer.json()["accepted"]:
            is_in = False  # A batch is judged event by event.
            missing = _call(land, role, (*cell[:3], "missing"))
            assert answer.json() == missing.json()
            assert answer.json()["refused"][0]["code"] == "key"
        if is_in != (role in allowed):
            wrong.append((role, answer.status_code, answer.content[:200]))
        if role in STRANGERS:
            assert answer.status_code == 401
        elif not is_in and "{" in cell[2] and answer.status_code not in SEEN_AND_REFUSED:
            missing = _call(land, role, (*cell[:3], "missing"))
            assert answer.status_code == missing.status_code == 404
            assert _plain(answer, land, thing) == _plain(missing, land, "missing")
    assert wrong == []
    record_property("cells", tried)


def test_r31_the_matrix_has_a_cell_for_every_operation_and_role(capsys):
    found = list(cells())

    known = {operation for operation, _ in ALLOWED}
    assert {operation for operation, *_ in found} == known
    with capsys.disabled():
        print(f"\naccess matrix: {len(found) * len(ROLES)} cells, {len(known)} operations")  # noqa: T201


def test_r32_ids_of_another_team_open_nothing_in_query_or_body(land):
    for role in ("mallory", "other agent"):
        caller = land.callers[role]
        for query in ("q=own", "team=payments", "label=own", "connection=orders"):
            names = [row["name"] for row in caller.get(f"/keys?{query}").json()["items"]]
            assert "own-key" not in names
        for body in (
            {"kind": "secret.reveal", "key": "own-key", "reason": "x"},
            {"kind": "key.revoke", "key": "own-key", "reason": "x"},
            {"kind": "key.rotate", "key": "own-key", "reason": "x"},
            {"kind": "key.change", "key": "own-key", "labels": ["x"], "reason": "x"},
            {"kind": "grant.give", "key": "own-key", "agent": "other-bot", "reason": "x"},
        ):
            assert caller.post("/requests", body).status_code in {403, 404}
