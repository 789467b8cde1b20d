"""The pages of agents, through HTTP: who gets what, and what each act leads to."""

from __future__ import annotations

import json
import re

import pytest
from django.db import transaction
from django.test import Client

from approvals.models import Request
from keyvault.accounts.devices import StepUp
from keyvault.agents import clients, tokens
from keyvault.agents.models import Agent
from keyvault.agents.models import Client as AgentClient
from keyvault.inventory.models import Grant
from tests import cast as people
from tests.keyvault.actions import conftest as actions
from tests.keyvault.agents import builders, proving
from tests.keyvault.web.test_keys import clean

pytestmark = pytest.mark.django_db
_registry, fake, house = actions._registry, actions.fake, actions.house

PEOPLE = ("alice", "bob", "carol", "dave", "erin", "frank", "mallory")
SEES = {"alice", "carol", "dave", "erin", "frank"}
MANAGES = {"alice", "carol", "frank"}
MAY = {
    "": SEES,
    "authentication/": SEES,
    "history/": SEES,
    "edit/": MANAGES,
    "owner/": {"alice", "carol"},
    "suspend/": MANAGES | {"erin"},
    "resume/": MANAGES | {"erin"},
    "retire/": MANAGES,
    "keys/ask/": MANAGES,
    "teams/join/": MANAGES,
    "secrets/new/": {"alice", "carol"},
    "public-keys/new/": {"alice", "carol"},
}


def client(person) -> Client:
    return people.sign_in(Client(), person)


def confirmed(browser, person, path, **fields):
    """Post a form, and the fresh code that the page asks for."""
    asked = browser.post(path, fields)
    assert b"Bound to" in asked.content, asked.content
    return browser.post(path, {**fields, "otp_code": people.totp_code(person)})


@pytest.mark.parametrize("part", MAY)
def test_r31_each_page_of_an_agent_opens_for_those_who_may_and_is_missing_for_the_rest(cast, part):
    builders.agent(cast)

    for name in PEOPLE:
        browser = client(getattr(cast, name))
        found = browser.get(f"/agents/refund-bot/{part}")
        missing = browser.get(f"/agents/no-such-bot/{part}")
        assert found.status_code == (200 if name in MAY[part] else 404), name
        assert missing.status_code == 404
        if name not in MAY[part]:
            strip = (b"refund-bot", b""), (b"no-such-bot", b"")
            assert clean(found, *strip) == clean(missing, *strip)


def test_r31_nobody_without_the_right_can_post_either(cast):
    agent = builders.agent(cast)

    for part in MAY:
        if part not in {"", "authentication/", "history/"}:
            answer = client(cast.mallory).post(f"/agents/refund-bot/{part}", {"cause": "x"})
            assert answer.status_code == 404
    agent.refresh_from_db()
    assert agent.state == "active"


def test_r33_an_unlisted_filter_is_a_bad_request(cast):
    for query in ("ordering=name", "owner__password__startswith=a", "after=forged"):
        assert client(cast.alice).get(f"/agents/?{query}").status_code == 400


def test_the_list_says_what_an_agent_is_shows_it_and_says_that_nothing_matches(cast):
    browser = client(cast.alice)
    assert b"No agent yet" in browser.get("/agents/").content

    builders.agent(cast, reads_outside_text=True)

    page = browser.get("/agents/").content
    assert b"refund-bot" in page
    assert b"Reads outside text" in page
    empty = browser.get("/agents/?state=suspended&q=zz").content
    assert b"Nothing matches" in empty
    assert b"Remove the filter state" in empty


def test_registering_gives_no_right(cast):
    answer = client(cast.alice).post(
        "/agents/new/",
        {
            "name": "Web-Scout",
            "title": "",
            "team": "payments",
            "backup_owner": str(cast.carol.pk),
            "purpose": "Reads the news.",
            "reads_outside_text": "on",
        },
    )

    assert answer["Location"] == "/agents/web-scout/"
    agent = Agent.objects.get()
    assert (agent.owner, agent.backup_owner, agent.title) == (cast.alice, cast.carol, "web-scout")
    assert agent.reads_outside_text
    assert not Grant.objects.filter(agent=agent).exists()
    assert not agent.memberships.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Not plain!"}, "name"),
        ({"name": "new"}, "name"),
        ({"name": "refund-bot"}, "name"),
        ({"team": "security"}, "team"),
        ({"team": "administrators"}, "team"),
        ({"backup_owner": "nobody"}, "backup_owner"),
        ({"purpose": ""}, "purpose"),
    ],
)
def test_r39_what_cannot_be_registered_is_said_at_its_field(cast, changes, field):
    builders.agent(cast)
    given = {"name": "scout", "team": "payments", "purpose": "Reads.", "backup_owner": ""}

    answer = client(cast.alice).post(
        "/agents/new/", given | changes | {"owner": "bob", "state": "retired"}
    )

    assert answer.status_code == 422
    assert field in answer.context["form"].errors
    assert Agent.objects.count() == 1


def test_a_suspension_takes_a_code_and_says_its_effect(cast):
    agent = builders.agent(cast)
    browser = client(cast.erin)

    answer = confirmed(browser, cast.erin, "/agents/refund-bot/suspend/", cause="Odd calls.")

    page = browser.get(answer["Location"]).content.decode()
    agent.refresh_from_db()
    assert (agent.state, agent.contained) == ("suspended", True)
    assert "refund-bot is suspended. No gateway is running." in page
    assert "Odd calls." in page
    assert "Resume…" in page
    assert "Resume…" not in client(cast.alice).get("/agents/refund-bot/").content.decode()


def test_an_owner_who_tries_to_lift_a_containment_is_told_who_can(cast):
    builders.agent(cast)
    confirmed(client(cast.erin), cast.erin, "/agents/refund-bot/suspend/", cause="x")

    answer = confirmed(client(cast.alice), cast.alice, "/agents/refund-bot/resume/", cause="y")

    assert answer.status_code == 422
    assert "somebody on duty" in answer.content.decode()


def test_a_stop_without_a_reason_asks_for_one_and_for_no_code(cast):
    builders.agent(cast)

    answer = client(cast.alice).post("/agents/refund-bot/suspend/", {"cause": ""})

    assert answer.status_code == 422
    assert not StepUp.objects.exists()


def test_a_client_secret_is_shown_once_and_opens_the_agent(cast):
    builders.agent(cast)
    browser = client(cast.alice)

    shown = confirmed(browser, cast.alice, "/agents/refund-bot/secrets/new/", days="30")

    page = shown.content.decode()
    secret = re.search(r'id="client-secret">([^<]+)<', page)[1]
    row = AgentClient.objects.get()
    assert secret.startswith(f"{clients.PREFIX}_{row.public_id}")
    assert 'id="client-id">refund-bot<' in page
    assert "no-store" in shown["Cache-Control"]
    assert proving.by_secret("refund-bot", secret).json()["access_token"]
    later = browser.get("/agents/refund-bot/authentication/").content.decode()
    assert row.public_id in later
    assert secret not in later
    assert secret not in json.dumps(list(StepUp.objects.values()), default=str)


def test_the_third_secret_is_refused(cast):
    builders.agent(cast)
    browser = client(cast.alice)
    for _ in range(2):
        confirmed(browser, cast.alice, "/agents/refund-bot/secrets/new/", days="1")

    answer = confirmed(browser, cast.alice, "/agents/refund-bot/secrets/new/", days="1")

    assert answer.status_code == 422
    assert "End one of them first" in answer.content.decode()


def test_a_private_key_that_was_pasted_is_refused_and_not_shown_again(cast):
    builders.agent(cast)
    private = {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "d": "PRIVATEHALF"}

    answer = client(cast.alice).post(
        "/agents/refund-bot/public-keys/new/", {"public_key": json.dumps(private), "days": "30"}
    )

    assert answer.status_code == 422
    assert "PRIVATEHALF" not in answer.content.decode()


def test_a_public_key_is_registered_and_ended(cast):
    builders.agent(cast)
    browser, path = client(cast.alice), "/agents/refund-bot/public-keys/new/"

    confirmed(browser, cast.alice, path, public_key=json.dumps(proving.Signer().public), days="30")
    row = AgentClient.objects.get()
    answer = confirmed(browser, cast.alice, f"/agents/refund-bot/clients/{row.pk}/end/")

    row.refresh_from_db()
    assert row.ended_at is not None
    assert b"is ended. No gateway is running." in browser.get(answer["Location"]).content


def test_a_responder_ends_a_secret_and_adds_none(cast):
    agent = builders.agent(cast)
    with transaction.atomic():
        made = clients.add_secret(agent_id=agent.pk, actor=builders.TESTS, now=cast.now)
    other = builders.agent(cast, "other-bot")

    foreign = client(cast.erin).post(f"/agents/{other.name}/clients/{made.client.pk}/end/")
    confirmed(client(cast.erin), cast.erin, f"/agents/refund-bot/clients/{made.client.pk}/end/")

    assert foreign.status_code == 404
    made.client.refresh_from_db()
    assert made.client.ended_at is not None


def test_access_is_asked_for_from_the_agent_and_from_the_key(house):
    builders.agent(house.cast)
    house.pull()
    browser = client(house.cast.alice)
    asked = {"days": "30", "reason": "It pays refunds.", "send": "1"}

    answer = browser.post("/agents/refund-bot/keys/ask/", {"what": "ledger-reader", **asked})
    again = browser.post("/keys/ledger-reader/agents/", {"what": "refund-bot", **asked})
    team = browser.post("/keys/ledger-reader/agents/", {"what": "team:payments", **asked})

    request = Request.objects.get(kind="grant.give", payload__team="")
    assert answer["Location"] == again["Location"] == f"/approvals/{request.pk}/"
    assert team.status_code == 302
    page = browser.get("/agents/refund-bot/").content.decode()
    assert "Let refund-bot use ledger-reader" in page


def test_the_page_shows_who_would_decide_before_anything_is_sent(house):
    builders.agent(house.cast)
    house.pull()

    page = client(house.cast.alice).get("/agents/refund-bot/keys/ask/")

    assert page.context["preview"].deciders.policy == "Agents elsewhere"
    wrong = client(house.cast.alice).post(
        "/agents/refund-bot/keys/ask/",
        {"what": "ledger-reader", "days": "0", "reason": "", "send": "1"},
    )
    assert wrong.status_code == 422
    assert not Request.objects.filter(kind="grant.give").exists()


def test_a_right_is_ended_from_the_page_of_the_key(house):
    agent, key = builders.agent(house.cast), house.pull()
    grant = builders.granted(house.cast, agent, key)
    browser = client(house.cast.alice)
    assert f"/grants/{grant.pk}/end/" in browser.get("/keys/ledger-reader/access/").content.decode()

    answer = confirmed(browser, house.cast.alice, f"/grants/{grant.pk}/end/", at="key")

    assert answer["Location"] == "/keys/ledger-reader/access/"
    grant.refresh_from_db()
    assert grant.ended_at is not None
    hidden = client(house.cast.mallory).post(f"/grants/{grant.pk}/end/")
    assert hidden.status_code == 404


def test_r33_keys_that_a_reader_may_not_see_are_counted_and_not_named(house):
    agent, key = builders.agent(house.cast), house.pull()
    builders.granted(house.cast, agent, key)

    responder = client(house.cast.erin).get("/agents/refund-bot/").content.decode()
    owner = client(house.cast.alice).get("/agents/refund-bot/").content.decode()

    assert "ledger-reader" not in responder
    assert "1 more that you may not see" in responder
    assert "ledger-reader" in owner


def test_a_change_of_a_key_is_asked_for_and_a_title_is_saved(house):
    house.create()
    browser = client(house.cast.alice)

    browser.post("/keys/ledger-reader/change/", {"rename": "1", "title": "The ledger"})
    answer = browser.post(
        "/keys/ledger-reader/change/",
        {
            "delivery_mode": "pull",
            "allowed_hosts": "db.example.com",
            "volume_per_day": "1000",
            "labels": "",
            "reason": "The agent fetches it.",
            "send": "1",
        },
    )

    request = Request.objects.get(kind="key.change")
    assert answer["Location"] == f"/approvals/{request.pk}/"
    assert "The ledger" in browser.get("/keys/ledger-reader/").content.decode()
    assert client(house.cast.carol).get("/keys/ledger-reader/change/").status_code == 404


def test_hostile_words_about_an_agent_are_inert(cast):
    builders.agent(cast, title="<b>x</b>\u202e", purpose="<script>alert(1)</script>")

    page = client(cast.alice).get("/agents/refund-bot/").content.decode()

    assert "<script>alert" not in page
    assert "U+202E" in page


def test_live_tokens_are_listed_and_never_shown(cast):
    agent = builders.agent(cast)
    issued = builders.token(cast, agent, keys=["ledger-reader"])

    page = client(cast.alice).get("/agents/refund-bot/authentication/").content.decode()

    assert issued.token.public_id in page
    assert issued.text.reveal().decode() not in page
    assert tokens.PREFIX in issued.text.reveal().decode()


def test_search_finds_an_agent_for_those_who_see_it(cast):
    builders.agent(cast)

    assert b"/agents/refund-bot/" in client(cast.alice).get("/search/?q=refund").content
    assert b"/agents/refund-bot/" not in client(cast.mallory).get("/search/?q=refund").content


def test_a_suspension_moves_the_live_topic_of_the_agent(cast, now):
    from keyvault.web import live

    agent = builders.agent(cast)
    before = live.version(cast.alice, "agent:refund-bot", now=now)
    builders.token(cast, agent)

    assert live.version(cast.alice, "agent:refund-bot", now=now) != before
    with pytest.raises(LookupError):
        live.version(cast.mallory, "agent:refund-bot", now=now)


def test_a_trust_and_a_job_are_asked_for_through_the_pages(house):
    builders.agent(house.cast)
    admin, owner = client(house.cast.frank), client(house.cast.alice)
    assert b"No issuer yet" in owner.get("/trusts/").content
    assert b"No trusted issuer yet" in owner.get("/agents/refund-bot/jobs/new/").content
    terms = {
        "slug": "github",
        "title": "GitHub",
        "kind": "github",
        "issuer": "https://token.actions.githubusercontent.com",
        "audience": "https://kv.example.com",
        "reason": "Jobs need keys.",
    }
    wrong = admin.post("/trusts/new/", terms | {"issuer": "http://issuer.example.com"})
    assert wrong.status_code == 422
    admin.post("/trusts/new/", terms)
    house.say(house.cast.grace, Request.objects.get(kind="trust.change"))
    house.work()

    page = owner.get("/agents/refund-bot/jobs/new/").content.decode()
    assert "job_workflow_ref" in page
    wild = {"trust": "github", "reason": "It deploys.", "more": "", "claim_0": "*"}
    assert owner.post("/agents/refund-bot/jobs/new/", wild).status_code == 422
    answer = owner.post(
        "/agents/refund-bot/jobs/new/",
        wild
        | {
            "claim_0": "12345",
            "claim_1": "678",
            "claim_2": "production",
            "claim_3": "northwind/shop/.github/workflows/deploy.yml@refs/heads/main",
        },
    )

    request = Request.objects.get(kind="trust.bind")
    assert answer["Location"] == f"/approvals/{request.pk}/"
    assert request.payload["claims"]["repository_id"] == "12345"
    for page in ("/trusts/new/", "/trusts/github/change/", "/trusts/github/end/"):
        assert admin.get(page).status_code == 200
        assert owner.get(page).status_code == 403
    assert b"GitHub" in owner.get("/trusts/").content


def test_the_page_of_a_fetched_key_says_how_it_is_read(house):
    house.pull()

    page = client(house.cast.alice).get("/keys/ledger-reader/").content.decode()

    assert "keyvault run --key ledger-reader=LEDGER_READER -- PROGRAM" in page
    assert "/v1/keys/ledger-reader" in page
