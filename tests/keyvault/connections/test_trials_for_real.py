"""Test runs at real servers, and at the fakes of vendors: what is there while they run, and afterwards."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
import redis
from django.db import transaction

from approvals.ports import Unfinished
from keyvault.audit.models import Event
from keyvault.connections import context, reconcile, trial_work, trials, trying
from keyvault.connections.models import Connection, Trial
from keyvault.crypto.secret import Secret
from keyvault.findings.models import Finding
from keyvault.plugins.faults import Fault, FaultProxy
from keyvault.vault import sealing
from tests.contracts import aws_servers
from tests.contracts.vendors.github_server import GitHubServer
from tests.contracts.vendors.openai_server import OpenAIServer
from tests.contracts.vendors.server import serving
from tests.keyvault.connections.fakes import Claims, Crash
from tests.keyvault.connections.real import connect, place, postgresql_place, valkey_place, where
from tests.keyvault.leases.conftest import OPTIONS, github
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

__all__ = ["place", "postgresql_place", "valkey_place", "where"]
pytestmark = pytest.mark.django_db(transaction=True)
SETTINGS = {
    "postgresql": {"login_prefix": "keyvault_test", "owner_role": "shop_owner"},
    "valkey": {"keys": "app:*", "commands": "+@read"},
}
POINTS = ["try:announced", "try:called", "try:validate", "try:revoke", "try:gone"]


def begin(where, options, now):
    with transaction.atomic():
        return trials.begin(
            connection_id=where.pk,
            request_id=uuid4(),
            started_by="Frank",
            options=options,
            actor=WORKER,
            now=now,
        )


def work(trial, now, **more):
    run = Claims(now, trial.request_id).claim(**more)
    try:
        trying.work_on(trials.of_request(trial.request_id), run)
    finally:
        trial.refresh_from_db()
    return trial


def living(place):
    """Return what keyvault has made at the server and what can log in there."""
    if place.provider == "valkey":
        root = redis.Redis(
            port=place.port,
            username=place.target.admin,
            password=place.password,
            decode_responses=True,
        )
        with root:
            return [name for name in root.execute_command("ACL", "USERS") if name.startswith("kv-")]
    with psycopg.connect(place.target.dsn()) as link:
        rows_ = link.execute(
            "SELECT rolname FROM pg_authid WHERE rolname LIKE 'keyvault_test%'"
            " AND (rolcanlogin OR rolpassword IS NOT NULL)"
        )
        return [row[0] for row in rows_.fetchall()]


def test_a_credential_is_made_tried_and_ended(place, where, now):
    trial = begin(where, SETTINGS[place.provider], now)
    seen, claims = [], Claims(now, trial.request_id)
    claims.hooks["try:validate"] = lambda: seen.extend(living(place))

    trying.work_on(trials.of_request(trial.request_id), claims.claim())

    trial.refresh_from_db()
    assert trial.state == "passed", trial.steps
    assert len(seen) == 1, "it was there"
    assert living(place) == []
    assert not Finding.objects.exists()


def test_what_it_leaves_at_postgresql_can_do_nothing_and_serves_the_next_one(
    postgresql_place, cast, now
):
    place = postgresql_place
    where = connect(cast, place)
    for _ in range(2):
        assert work(begin(where, SETTINGS["postgresql"], now), now).state == "passed"

    with psycopg.connect(place.target.dsn()) as link:
        roles = link.execute(
            "SELECT rolname, rolcanlogin, rolpassword FROM pg_authid"
            " WHERE rolname LIKE 'keyvault_test%'"
        ).fetchall()
    assert roles == [("keyvault_test_a", False, None)]


@pytest.mark.parametrize("point", POINTS)
def test_whoever_takes_over_ends_what_was_made_and_begins_anew(place, where, now, point):
    trial = begin(where, SETTINGS[place.provider], now)
    with pytest.raises(Crash):
        work(trial, now, crash_at=point)

    work(trial, now)

    assert (trial.state, trial.attempt) == ("passed", 2)
    assert living(place) == []


@pytest.mark.parametrize("point", ["try:called", "try:validate"])
def test_what_a_given_up_one_has_left_is_ended_by_the_inventory(place, where, now, point):
    trial = begin(where, SETTINGS[place.provider], now)
    with pytest.raises(Crash):
        work(trial, now, crash_at=point)
    with transaction.atomic():
        trials.give_up(trial, "The worker died.", now=now)
    assert len(living(place)) == 1

    reconcile.look(where.pk, Claims(now).claim())

    assert living(place) == []
    assert not Finding.objects.filter(closed_at=None).exists()


def test_a_right_that_the_check_cannot_see_fails_it(valkey_place, cast, now):
    """The reason for test runs: the check reads, and this right shows when it is used."""
    place = valkey_place
    where = connect(cast, place)
    with redis.Redis(port=place.port, username=place.target.admin, password=place.password) as root:
        root.execute_command("ACL", "SETUSER", place.target.admin, "-acl|deluser")

    trial = work(begin(where, SETTINGS["valkey"], now), now)

    assert trial.state == "failed"
    assert [step["step"] for step in trial.steps if step["outcome"] == "failed"] == ["revoke"]
    assert trial.left_behind
    assert Finding.objects.get(closed_at=None).detail == trial.left_behind


def test_no_password_stands_in_the_log_of_the_server(postgresql_place, cast, now, monkeypatch):
    place, passwords, honest = postgresql_place, [], trial_work.Work.make

    def make(self, planned):
        issued = honest(self, planned)
        passwords.append(issued.material["password"].reveal().decode())
        return issued

    monkeypatch.setattr(trial_work.Work, "make", make)

    work(begin(connect(cast, place), SETTINGS["postgresql"], now), now)

    written = place.target.log.read_text() + repr(list(Event.objects.values()))
    written += repr(list(Trial.objects.values()))
    assert passwords
    assert not [word for word in passwords if word in written]


# Vendors, before fakes of their servers.


@pytest.fixture
def github_app():
    with serving(GitHubServer()) as server, FaultProxy("127.0.0.1", server.port) as proxy:
        yield server, proxy


@pytest.fixture
def openai(cast, now):
    """A function that begins a test run at a project, the fake of its server, and the way there."""
    with serving(OpenAIServer()) as server, FaultProxy("127.0.0.1", server.port) as proxy:
        project, address = server.add_project(), f"http://127.0.0.1:{proxy.port}"
        where = rows.connection(
            cast,
            provider="openai",
            config={"url": address, "project": project.id},
            allowed_hosts=[address],
            credential_number=1,
        )
        with transaction.atomic():
            admin = {"admin_key": Secret.of(server.admin)}
            sealing.put(context.credential_place(where), admin, now=now)
        options = {"service_account": server.add_account(project)}
        yield begin(where, options, now), project, proxy


def tokens(server):
    return sum(len(one.tokens) for one in server.installations.values())


def test_an_installation_token_of_github_is_minted_and_ended(github_app, cast, now):
    server, proxy = github_app

    trial = work(begin(github(cast, server, proxy.port), OPTIONS, now), now)

    assert trial.state == "passed", trial.steps
    assert tokens(server) == 0


def test_an_installation_token_whose_answer_was_lost_is_told(github_app, cast, now):
    server, proxy = github_app
    trial = begin(github(cast, server, proxy.port), OPTIONS, now)
    with proxy.failing(Fault.LOSE_ANSWER, b'"permissions"'), pytest.raises(Unfinished):
        work(trial, now)

    work(trial, now)

    assert (trial.state, tokens(server)) == ("failed", 1)
    assert Finding.objects.get(closed_at=None).kind == "unanswered"


def test_a_key_of_openai_is_made_and_ended_also_after_a_lost_answer(openai, now):
    trial, project, proxy = openai
    with proxy.failing(Fault.LOSE_ANSWER, b'"name"'), pytest.raises(Unfinished):
        work(trial, now)
    assert len(project.keys) == 1

    work(trial, now)

    assert (trial.state, trial.attempt) == ("passed", 2), trial.steps
    assert not project.keys


@pytest.mark.slow
def test_an_access_key_of_aws_is_told_from_others_by_its_age(cast, now, tmp_path):
    with aws_servers.moto(tmp_path) as target, FaultProxy("127.0.0.1", target.port) as proxy:
        word, iam = uuid4().hex[:12], target.client("iam")
        iam.create_user(UserName=f"app-{word}", Path=f"/t-{word}/")
        address = f"http://127.0.0.1:{proxy.port}"
        where = rows.connection(
            cast,
            provider="aws_iam",
            config={"account": aws_servers.ACCOUNT, "path": f"/t-{word}/", "endpoint": address},
            allowed_hosts=[address],
            credential_number=1,
        )
        admin = target.user(f"admin-{word}", "/admins/", aws_servers.IAM_RIGHTS)
        with transaction.atomic():
            sealing.put(context.credential_place(where), admin, now=now)
        trial = begin(where, {"user": f"app-{word}"}, now)
        with proxy.failing(Fault.LOSE_ANSWER, b"Action=CreateAccessKey"), pytest.raises(Unfinished):
            work(trial, now)
        work(trial, now)
        left = iam.list_access_keys(UserName=f"app-{word}")["AccessKeyMetadata"]

    assert (trial.state, trial.attempt) == ("passed", 2), trial.steps
    assert left == []
    assert Connection.objects.get().inventory_due_at > now
