"""What people do at a terminal: sign in and out, ask, follow, fill files, look what is wrong."""

from __future__ import annotations

import json
import os
import re
import stat
import time

import pytest

from keyvault.cli import home, printing, templates
from keyvault.launcher.sentences import Stop
from tests.keyvault.client import house as houses
from tests.servers import free_port

DEVICE = {
    "device_code": "kvd_secret",
    "user_code": "BCDF-GHJK",
    "verification_uri": "https://kv.example/device/",
    "expires_in": 600,
    "interval": 0,
}
ROW = {
    "id": "00000000-0000-4000-8000-000000000001",
    "label": "REQ-1001",
    "kind": "key.create",
    "state": "pending",
    "title": "Create orders-triage",
    "reason": "because\x1b[2J",
    "expires_at": "2026-12-01T00:00:00Z",
    "end_sentence": "",
    "progress": {"have": 1, "need": 2},
    "page": "/requests/00000000-0000-4000-8000-000000000001/",
}
REQUESTS = "/api/v1/requests"


@pytest.fixture
def terminal(terminal, tmp_path):
    """Return one outside of any installation; a source tree in which `./kv up` has run is one."""
    terminal.env["KEYVAULT_DATA_DIR"] = str(tmp_path / "no-installation")
    return terminal


def signed_in(terminal, *, lasts_s=1000.0):
    """Sign alice in at the house, as login would leave it."""
    terminal.env["KEYVAULT_URL"] = terminal.house.url
    terminal.house.tokens.append("kvt_alice")
    kept = terminal.home / ".config/keyvault/token"
    kept.parent.mkdir(parents=True)
    facts = {"url": terminal.house.url, "person": "alice", "token": "kvt_alice"}
    kept.write_text(json.dumps({**facts, "expires_at": time.time() + lasts_s}))
    kept.chmod(0o600)
    return kept


def test_login_shows_the_code_waits_and_keeps_the_token(house, terminal):
    house.device = [
        DEVICE,
        {"error": "authorization_pending"},
        {"access_token": "kvt_alice", "expires_in": 28800, "person": "alice"},
    ]

    result = terminal.run("login", house.url)

    kept = terminal.home / ".config/keyvault/token"
    assert result.returncode == 0, result.stderr
    assert "BCDF-GHJK" in result.stdout
    assert "https://kv.example/device/" in result.stdout
    assert f"Signed in at {house.url} as alice, for 8 hours." in result.stdout
    assert "kvt_alice" not in result.stdout + result.stderr
    assert "kvd_secret" not in result.stdout + result.stderr
    assert json.loads(kept.read_text())["token"] == "kvt_alice"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_a_login_outlasts_a_server_that_is_away_for_a_moment(house, terminal):
    house.device = [
        DEVICE,
        {"status": 503, "error": "temporarily_unavailable"},
        {"access_token": "kvt_alice", "expires_in": 28800, "person": "alice"},
    ]

    result = terminal.run("login", house.url)

    assert result.returncode == 0, result.stderr
    assert house.device == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("access_denied", "refused in the browser"),
        ("expired_token", "nobody confirmed in time"),
        ("invalid_grant", "gives this program no token"),
    ],
)
def test_a_login_that_ends_badly_says_so_and_keeps_nothing(house, terminal, error, words):
    house.device = [DEVICE, {"error": error}]

    result = terminal.run("login", house.url)

    assert result.returncode == 5
    assert words in result.stderr
    assert not (terminal.home / ".config/keyvault/token").exists()


def test_logout_removes_the_token_here_and_there(house, terminal):
    kept = signed_in(terminal)
    house.device = [{}]

    result = terminal.run("logout")

    assert (result.returncode, result.stdout) == (0, f"Signed out of {house.url}.\n")
    assert house.forms == [{"token": "kvt_alice"}]
    assert not kept.exists()
    assert terminal.run("logout").stdout == "Nobody was signed in here.\n"


def test_logout_removes_the_token_also_while_the_server_is_away(terminal):
    kept = signed_in(terminal)
    facts = json.loads(kept.read_text())
    kept.write_text(json.dumps({**facts, "url": f"http://127.0.0.1:{free_port()}"}))

    result = terminal.run("logout")

    assert result.returncode == 3
    assert "could not be told" in result.stdout
    assert not kept.exists()


def test_a_person_is_sent_to_the_console_for_a_value(terminal):
    signed_in(terminal)

    for arguments in (["get", "openai-prod"], ["run", "--key", "openai-prod", "--", "env"]):
        result = terminal.run(*arguments)

        assert result.returncode == (4 if arguments[0] == "get" else 125)
        assert "keyvault request create secret.reveal --key openai-prod" in result.stderr
        assert result.stdout == ""
    assert not terminal.house.count("GET", "/v1/keys/openai-prod")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda kept: kept.chmod(0o644), "Others may read"),
        (lambda kept: kept.write_text("{"), "is damaged"),
        (lambda kept: kept.unlink(), "Nobody is signed in here"),
    ],
)
def test_a_token_file_that_cannot_be_trusted_is_not_used(terminal, spoil, words):
    spoil(signed_in(terminal))

    result = terminal.run("agents", "list")

    assert result.returncode == 5
    assert words in result.stderr


def test_a_token_that_is_over_asks_to_sign_in(terminal):
    signed_in(terminal, lasts_s=-1)

    result = terminal.run("request", "list")

    assert (result.returncode, result.stdout) == (5, "")
    assert result.stderr == (
        "keyvault: Your token is over; one lasts 8 hours. Sign in: keyvault login\n"
    )


def test_a_request_is_asked_for_with_its_fields(house, terminal):
    signed_in(terminal)
    house.api["POST", REQUESTS] = (201, ROW)

    result = terminal.run(
        *("request", "create", "key.create", "name=orders-triage", "lifetime_days:=30"),
        *("--reason", "triage"),
    )

    assert house.bodies == [
        {
            "kind": "key.create",
            "ticket": "",
            "reason": "triage",
            "declared": {"name": "orders-triage", "lifetime_days": 30},
        }
    ]
    assert "REQ-1001  Create orders-triage" in result.stdout
    assert "1 of 2" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_grant_is_asked_for_by_options(house, terminal):
    signed_in(terminal)
    house.api["POST", REQUESTS] = (201, ROW)

    terminal.run(
        *("request", "create", "grant.give", "--key", "a-key", "--agent", "bot", "--days", "7"),
        *("--reason", "why", "--json"),
    )

    sent = {"kind": "grant.give", "ticket": "", "reason": "why", "key": "a-key"}
    assert house.bodies == [{**sent, "agent": "bot", "days": 7}]


@pytest.mark.parametrize(
    "arguments",
    [["key.create"], ["key.create", "--reason", "x", "nofield"], ["a", "--reason", "x", "n:=}"]],
)
def test_a_request_that_is_not_complete_is_not_sent(house, terminal, arguments):
    signed_in(terminal)

    result = terminal.run("request", "create", *arguments)

    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert house.bodies == []


def test_requests_are_listed_for_people_and_for_programs(house, terminal):
    signed_in(terminal)
    house.api["GET", REQUESTS] = (200, {"items": [ROW], "next_cursor": None})

    listed = terminal.run("request", "list").stdout
    as_json = terminal.run("request", "list", "--json").stdout

    assert listed.splitlines()[0].split() == ["request", "state", "kind", "about", "lapses"]
    assert listed.splitlines()[1].startswith("REQ-1001  pending  key.create")
    assert json.loads(as_json)[0]["label"] == "REQ-1001"


def test_a_request_is_followed_to_its_end(house, terminal):
    signed_in(terminal)
    house.api["GET", REQUESTS] = (200, {"items": [ROW], "next_cursor": None})
    one = {**ROW, "state": "rejected", "end_sentence": "Not this one."}
    house.api["GET", f"{REQUESTS}/{ROW['id']}"] = (200, one)

    result = terminal.run("request", "show", "req-1001", "--wait")

    assert result.returncode == 4
    assert "Not this one." in result.stdout


def test_a_request_is_withdrawn(house, terminal):
    signed_in(terminal)
    address = f"{REQUESTS}/{ROW['id']}/withdraw"
    house.api["POST", address] = (200, {**ROW, "state": "withdrawn"})

    result = terminal.run("request", "withdraw", ROW["id"])

    assert result.returncode == 0, result.stderr
    assert "withdrawn" in result.stdout


def test_agents_are_listed(house, terminal):
    signed_in(terminal)
    row = {"name": "refund-bot", "state": "active", "owner": {"name": "Alice"}, "team": "payments"}
    house.api["GET", "/api/v1/agents"] = (200, {"items": [row], "next_cursor": None})

    assert terminal.run("agents", "list").stdout.splitlines()[1].split() == [
        *("refund-bot", "active", "Alice", "payments")
    ]


def test_a_template_goes_into_a_pipe(terminal, tmp_path):
    (tmp_path / "t").write_text("key = ${kv:openai-prod}\nshell = $${kv:x} ${HOME} $PATH\n")

    result = terminal.as_agent().run("template", str(tmp_path / "t"))

    assert result.stdout == "key = sk-first-value\nshell = ${kv:x} ${HOME} $PATH\n"


def test_a_template_is_written_for_its_owner_alone_and_anew_when_a_version_moves(
    house, terminal, tmp_path
):
    (tmp_path / "t").write_text("key = ${kv:openai-prod}\n")
    out = tmp_path / "out"
    process = terminal.as_agent().start(
        "template", str(tmp_path / "t"), "--out", str(out), "--follow"
    )
    until = time.monotonic() + 20
    while not house.count("GET", "/v1/watch") and time.monotonic() < until:
        time.sleep(0.05)
    assert out.read_text() == "key = sk-first-value\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    time.sleep(0.2)
    house.put("openai-prod", "sk-second-value")

    said = process.stderr.readline().decode()

    assert "holds version 2 of openai-prod" in said
    assert out.read_text() == "key = sk-second-value\n"
    assert sorted(p.name for p in tmp_path.iterdir() if "out" in p.name) == ["out"]
    process.terminate()
    assert process.wait(timeout=10) == 0


def test_a_template_that_cannot_be_filled_writes_nothing(terminal, tmp_path):
    (tmp_path / "t").write_text("a\n${kv:somebody-elses}")
    out = tmp_path / "out"

    assert (
        terminal.as_agent().run("template", str(tmp_path / "t"), "--out", str(out)).returncode == 4
    )
    (tmp_path / "t").write_text("a\n${kv:Not A Name}")
    result = terminal.run("template", str(tmp_path / "t"), "--out", str(out))

    assert result.returncode == 2
    assert "Line 2" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize("text", ["${kv:a", "${kv:}", "${kv:A}", "${kv:a b}", "${kv:a.}"])
def test_a_place_that_is_not_well_formed_is_refused(text):
    with pytest.raises(Stop, match="Line 1"):
        templates.render(text, lambda name, field: "x")


def test_a_value_is_not_filled_in_twice():
    assert templates.render("${kv:a}", lambda name, field: "${kv:b}") == "${kv:b}"


def test_doctor_finds_nothing_wrong_with_a_client_that_works(terminal):
    result = terminal.as_agent().run("doctor")

    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "all is well")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"KEYVAULT_URL": ""}, "KEYVAULT_URL is not set"),
        ({"KEYVAULT_CLIENT_SECRET": "kvs_wrong"}, "gives this program no token"),
    ],
)
def test_doctor_says_what_is_wrong_with_a_client(terminal, change, words):
    terminal.as_agent().env.update(change)

    result = terminal.run("doctor")
    as_json = terminal.run("doctor", "--json")

    assert result.returncode == as_json.returncode == 1
    assert words in result.stdout
    assert words in json.loads(as_json.stdout)["faults"][0]


def test_doctor_notices_a_clock_that_is_off(terminal, monkeypatch):
    monkeypatch.setattr(
        houses._Handler, "date_time_string", lambda *a: "Thu, 01 Jan 2026 00:00:00 GMT"
    )

    result = terminal.as_agent().run("doctor")

    assert re.search(r"The clock here is \+\d+ s off", result.stdout)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    home.write(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _handle: (_ for _ in ()).throw(OSError("full")))

    with pytest.raises(OSError, match="full"):
        home.write(path, b"new")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_of_others_cannot_steer_a_terminal():
    assert printing.plain("a\x1b[2J\u202eb\x07\r\n") == "a\ufffd[2J\ufffdb\ufffd\ufffd\ufffd"
