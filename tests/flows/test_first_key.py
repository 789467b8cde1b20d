"""From an empty installation to the first approved key, in a real browser.

Ada takes the token from the terminal, enrols, works alone for a moment, and
invites Ben; once he has enrolled, nobody decides alone any more. A Connection
is typed into the form, approved, and makes a real PostgreSQL role.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import psycopg
import pytest
from playwright.sync_api import Browser, expect

from keyvault.cli import demo as codes
from keyvault.launcher import demo
from tests.flows.people import Cast, Person, at_browsers
from tests.servers import Stack

pytestmark = pytest.mark.browser

PASSWORDS = {"ada": "correct horse battery 1", "ben": "staple of another colour 2"}


@pytest.fixture
def people(empty_stack: Stack, browser: Browser) -> Iterator[Cast]:
    with at_browsers(empty_stack, browser) as cast:
        yield cast


class Authenticator:
    """What an app on a phone holds: a seed, read off the page."""

    def __init__(self, stack: Stack, username: str) -> None:
        self.stack, self.username, self.seed = stack, username, ""

    def scan(self, person: Person) -> None:
        self.seed = person.page.locator("#seed").inner_text().replace(" ", "")

    def __call__(self) -> str:
        """Return a code that is accepted now, although the last one was used a moment ago."""
        with self.stack.sql() as link:
            link.execute(
                "UPDATE keyvault_totpdevice SET last_step = -1 FROM keyvault_user u"
                " WHERE u.id = user_id AND u.username = %s",
                [self.username],
            )
        return codes.totp(self.seed, int(time.time()) // codes.STEP_S)


def keep_recovery_codes(person: Person) -> None:
    """Type back the code that the page asks for."""
    page = person.page
    asked = page.get_by_text(re.compile("Type back code number")).inner_text()
    number = int(re.search(r"number (\d+)", asked).group(1))
    shown = page.locator("#recovery-codes code").all_inner_texts()
    page.locator("#id_code").fill(shown[number - 1])
    page.get_by_role("button", name="I have kept them").click()


def set_up(ada: Person, phone: Authenticator, stack: Stack) -> None:
    """Walk the six steps as the first administrator."""
    page = ada.page
    ada.watch.expect("status of 503")
    ada.go("/keys/")
    expect(page.get_by_role("heading", level=1)).to_contain_text(
        re.compile("set up", re.IGNORECASE)
    )
    ada.go("/setup/")
    page.get_by_label("Set-up token").fill(stack.setup_token())
    page.get_by_role("button", name="Continue").click()
    # The self-check looks again by itself until a worker has taken its job.
    expect(page.get_by_role("heading", level=1)).to_contain_text("Self-check")
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Name", exact=True).fill("Ada Byron")
    page.get_by_label("E-mail").fill("ada@example.com")
    page.get_by_label("User name").fill("ada")
    page.get_by_label("Password").fill(PASSWORDS["ada"])
    page.get_by_role("button", name="Continue").click()
    phone.scan(ada)
    page.get_by_role("textbox", name="Code").fill(phone())
    page.get_by_role("button", name="Verify and continue").click()
    keep_recovery_codes(ada)


def invite(ada: Person) -> tuple[str, str]:
    """Invite the second administrator; return the link's path and the code."""
    page = ada.page
    page.get_by_label("Name", exact=True).fill("Ben Okri")
    page.get_by_label("E-mail").fill("ben@example.com")
    page.get_by_label("User name").fill("ben")
    page.get_by_role("button", name="Invite and show the code").click()
    link, code = page.locator("#link").inner_text(), page.locator("#code").inner_text()
    return link.removeprefix(ada.stack_url), code


def take_up(ben: Person, phone: Authenticator, link: str, code: str) -> None:
    page = ben.page
    ben.go(link)
    page.get_by_role("textbox", name="Code").fill(code)
    page.get_by_label("Password").fill(PASSWORDS["ben"])
    page.get_by_role("button", name="Make my account").click()
    phone.scan(ben)
    page.get_by_role("textbox", name="Code").fill(phone())
    page.get_by_role("button", name="Verify and continue").click()
    keep_recovery_codes(ben)


def make_team(ada: Person, ben: Person) -> None:
    ada.go("/people/teams/new/")
    ada.page.get_by_label("Name", exact=True).fill("Agents")
    ada.page.get_by_label("Short name").fill("agents")
    ada.page.get_by_label("Reason").fill("The agents get keys of their own.")
    ada.page.get_by_role("button", name="Send for approval").click()
    agreed(ada, ben)


def connect(ada: Person, ben: Person, targets: demo.Targets) -> None:
    """Type a Connection to a real server into the form, check it, have it approved."""
    page = ada.page
    address = f"{targets.host}:{targets.postgres_port}"
    ada.go("/connections/new/?provider=postgresql")
    page.get_by_label("Name", exact=True).fill("orders-db")
    page.get_by_label("Title").fill("Orders database")
    page.get_by_label("Environment").select_option("dev")
    page.get_by_label("Host", exact=True).fill(targets.host)
    page.get_by_label("Port", exact=True).fill(str(targets.postgres_port))
    page.get_by_label("Database", exact=True).fill(demo.DATABASE)
    page.get_by_label("Admin user").fill(demo.ADMIN)
    page.get_by_label("TLS", exact=True).select_option("disable")
    page.get_by_label("Private addresses it may reach").fill(address)
    page.get_by_label("Admin password").fill(targets.password)
    page.get_by_role("textbox", name="Why").fill("Keys for the orders database.")
    with page.expect_navigation():
        page.get_by_role("button", name="Ask for approval").last.click()
    assert targets.password not in page.content()
    if page.locator("#id_otp_code").count():
        ada.confirm()
    agreed(ada, ben)


def ask_for_a_key(ada: Person) -> str:
    page = ada.page
    ada.go("/requests/new/?connection=orders-db")
    page.get_by_label("Name", exact=True).fill("first-agent")
    page.get_by_label("Login name").fill("first_agent")
    page.get_by_label("Owner role").fill(demo.OWNER)
    page.get_by_label("Environment").select_option("dev")
    page.get_by_label("Purpose").fill("The very first agent.")
    page.get_by_role("button", name="Send for approval").last.click()
    return ada.path()


def agreed(asker: Person, approver: Person) -> str:
    """Have the request that the asker is looking at approved and done."""
    expect(asker.page.get_by_role("heading", name="Your request")).to_be_visible()
    request = asker.path()
    approver.decide(request, "approve")
    asker.await_state(request, "Done")
    return request


def roles_made(targets: demo.Targets) -> list[str]:
    with psycopg.connect(
        host=targets.host,
        port=targets.postgres_port,
        dbname=demo.DATABASE,
        user=demo.ADMIN,
        password=targets.password,
    ) as link:
        found = link.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'first_agent%' AND rolcanlogin"
        )
        return [row[0] for row in found]


def test_an_empty_installation_comes_to_its_first_key(
    people: Cast, empty_stack: Stack, stack: Stack
):
    phones = {name: Authenticator(empty_stack, name) for name in ("ada", "ben")}
    ada = people.visitor("ada", phones["ada"])
    ben = people.visitor("ben", phones["ben"])

    set_up(ada, phones["ada"], empty_stack)
    link, code = invite(ada)
    ada.go("/people/")
    expect(ada.page.get_by_text("Solo mode: one administrator")).to_be_visible()
    take_up(ben, phones["ben"], link, code)
    ada.go("/people/")
    expect(ada.page.get_by_text("Solo mode: one administrator")).not_to_be_visible()

    make_team(ada, ben)
    connect(ada, ben, stack.targets())
    request = ask_for_a_key(ada)
    agreed(ada, ben)

    assert roles_made(stack.targets()) == ["first_agent_a"]
    ada.go("/keys/first-agent/")
    expect(ada.page.locator(".page-head .badge", has_text="Active")).to_be_visible()
    ada.go(request)
    expect(ada.page.get_by_text("Ben Okri").first).to_be_visible()
    ada.go("/setup/")
    assert ada.page.locator("h1").inner_text() != "Set up keyvault"
    ada.watch.expect("status of 404")
    assert [line for line in people.watch.messages if "404" not in line] == []
