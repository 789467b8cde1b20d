"""Scene A of the product: from the first sign-in to a revoked key, in a real browser.

Alice asks for a PostgreSQL key; bob and carol sign; alice edits before carol
signs; the value logs in to the real server; it is revoked by the same road;
the receipt verifies offline; dave reads and verifies every step.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, expect

from keyvault.crypto import keys_dir
from keyvault.launcher import demo
from tests.browser.harness import shoot
from tests.flows.people import Cast, Person, at_browsers
from tests.servers import Stack

pytestmark = pytest.mark.browser

KEY = "orders-triage"


@pytest.fixture
def people(stack: Stack, browser: Browser) -> Iterator[Cast]:
    with at_browsers(stack, browser) as cast:
        yield cast


def ask_for_a_key(alice: Person) -> str:
    page = alice.page
    alice.go("/requests/new/")
    page.get_by_role("link", name="Northwind orders (PostgreSQL)").click()
    page.get_by_label("Name", exact=True).fill(KEY)
    page.get_by_label("Environment").select_option("prod")
    page.get_by_label("Calls a day").fill("5000")
    page.get_by_label("Lifetime in days").fill("30")
    page.get_by_label("Allowed hosts").fill("db.northwind.example")
    page.get_by_label("Purpose").fill("The triage agent reads orders to answer customers.")
    page.get_by_label("Backup owner").select_option(label="Carol Jensen")
    page.get_by_label("Labels").blur()
    expect(page.get_by_role("complementary", name="If sent now")).to_contain_text("Bob Okafor")
    shoot(page, "request-a-key")
    page.get_by_role("button", name="Send for approval").last.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(KEY)
    return alice.path()


def edit(alice: Person, path: str, *, calls: str) -> None:
    alice.go(path)
    alice.page.get_by_role("link", name=re.compile("^Edit")).click()
    alice.page.get_by_label("Calls a day").fill(calls)
    alice.page.get_by_role("button", name="Send the revision").click()
    expect(alice.page.get_by_text("revision 2").first).to_be_visible()


def reveal(alice: Person) -> dict[str, str]:
    """Open the only reveal and return what is on the page."""
    alice.page.get_by_role("button", name=re.compile("^Reveal once")).click()
    alice.confirm()
    facts = alice.page.locator(".facts")
    shown = dict(
        zip(
            facts.locator("dt").all_inner_texts(),
            facts.locator("dd").all_inner_texts(),
            strict=True,
        )
    )
    names = [text.lower() for text in alice.page.locator("[data-reveal] .f-l").all_inner_texts()]
    values = alice.page.locator("output.value").all_text_contents()
    return {key.lower(): value for key, value in shown.items()} | dict(
        zip(names, values, strict=True)
    )


def log_in(stack: Stack, value: dict[str, str]) -> str:
    targets = stack.targets()
    with psycopg.connect(
        host=targets.host,
        port=targets.postgres_port,
        dbname=demo.DATABASE,
        user=value["username"],
        password=value["password"],
        connect_timeout=5,
    ) as link:
        return str(link.execute("SELECT session_user").fetchone()[0])


def verify_offline(receipt: Path, stack: Stack, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run the verifier as somebody far from the server would: no settings, no database."""
    kept = ("PATH", "HOME")
    return subprocess.run(
        [sys.executable, "-P", "-m", "keyvault.cli", "verify", str(receipt), "--trust",
         str(trusted_key(stack, tmp_path))],
        env={k: os.environ[k] for k in kept if k in os.environ} | {"PYTHONPATH": str(demo_root())},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def demo_root() -> Path:
    return Path(demo.__file__).resolve().parents[2]


def trusted_key(stack: Stack, tmp_path: Path) -> Path:
    path = tmp_path / "receipt.pub"
    keys = keys_dir.load(Path(stack.environment()["KEYVAULT_KEYS_DIR"]))
    path.write_text(keys.receipt.public.hex())
    return path


def edited_while_carol_reads(alice: Person, bob: Person, carol: Person, request: str) -> None:
    """Bob has signed and carol reads; the edit clears his decision and refuses hers."""
    bob.decide(request, "approve")
    expect(bob.page.get_by_text("1 of 2 approvals")).to_be_visible()
    carol.go(request)
    shoot(carol.page, "decide")
    edit(alice, request, calls="9000")
    carol.watch.expect("status of 409")
    carol.choose("approve", "Looks right to me.")
    expect(carol.page.get_by_role("heading", level=1)).to_contain_text("has changed")
    expect(carol.page.get_by_role("table").last).to_contain_text("9,000")
    expect(carol.page.get_by_label("Note to requester")).to_have_value("Looks right to me.")
    shoot(carol.page, "changed-while-reading")


def receipt_of(bob: Person, request: str, where: Path) -> Path:
    bob.go(request)
    with bob.page.expect_download() as download:
        bob.page.get_by_role("link", name=re.compile("receipt of bob", re.IGNORECASE)).last.click()
    download.value.save_as(where / "receipt.json")
    return where / "receipt.json"


def ask_to_reveal(alice: Person) -> str:
    alice.go(f"/keys/{KEY}/reveal/")
    alice.page.get_by_label("Reason").fill("The first deployment takes it by hand.")
    alice.page.get_by_role("button", name="Send for approval").click()
    return alice.path()


def ask_to_revoke(alice: Person) -> str:
    alice.go(f"/keys/{KEY}/revoke/")
    alice.page.get_by_label("Reason").fill("The agent is retired.")
    alice.page.get_by_role("button", name=re.compile("^Ask to revoke")).click()
    alice.confirm()
    return alice.path()


def approved(request: str, alice: Person, *approvers: Person) -> None:
    for approver in approvers:
        approver.decide(request, "approve")
    alice.await_state(request, "Done")


def audited(dave: Person) -> None:
    dave.go(f"/audit/?q=key:{KEY}")
    events = dave.page.locator("table")
    for name in ("key.requested", "version.promoted", "secret.revealed", "key.revoked"):
        expect(events.get_by_text(name).first).to_be_visible()
    shoot(dave.page, "audit")
    dave.go("/audit/verify/")
    dave.page.get_by_role("button", name=re.compile("^Verify")).click()
    expect(
        dave.page.get_by_text(re.compile("intact|verified", re.IGNORECASE)).first
    ).to_be_visible()


def test_a_key_lives_from_asking_to_revocation(people: Cast, stack: Stack, tmp_path: Path):
    alice, bob, carol = (people.sign_in(name) for name in ("alice", "bob", "carol"))

    request = ask_for_a_key(alice)
    edited_while_carol_reads(alice, bob, carol, request)
    approved(request, alice, bob, carol)
    receipt = receipt_of(bob, request, tmp_path)

    approved(ask_to_reveal(alice), alice, bob)
    alice.go(f"/keys/{KEY}/")
    shoot(alice.page, "key")
    alice.go(f"/keys/{KEY}/versions/1/reveal/")
    value = reveal(alice)
    assert log_in(stack, value) == value["username"]
    alice.go(f"/keys/{KEY}/versions/1/reveal/")
    expect(alice.page.get_by_text("revealed this version")).to_be_visible()
    assert value["password"] not in alice.page.content()

    approved(ask_to_revoke(alice), alice, bob, carol)
    with pytest.raises(psycopg.OperationalError):
        log_in(stack, value)

    checked = verify_offline(receipt, stack, tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    receipt.write_text(receipt.read_text().replace("approve", "reject"))
    assert verify_offline(receipt, stack, tmp_path).returncode != 0

    audited(people.sign_in("dave"))
    bob.go("/")
    shoot(bob.page, "overview")
    assert people.watch.messages == []
