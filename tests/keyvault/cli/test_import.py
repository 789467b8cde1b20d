"""Bring existing keys from files at a terminal: what is sent, what is said, and never a value."""

from __future__ import annotations

import json

import pytest

from keyvault.cli import found, found_in_files
from keyvault.cli.found import Found
from keyvault.launcher.sentences import Stop
from tests.keyvault.cli.test_people import signed_in

IMPORTS = "/api/v1/imports"
CANARY, SECOND = "sk-canary-import-1", "sk-canary-import-2"
PLACE = ("--connection", "openai", "--environment", "dev", "--team", "payments")
WHY = ("--reason", "Out of the files.")


def answer(body):
    """Say what the real server says: one request for each owner."""
    owners = dict.fromkeys(key.get("owner", "alice") or "alice" for key in body["keys"])
    rows = [
        {
            "id": "00000000-0000-4000-8000-000000000001",
            "label": f"REQ-{number}",
            "state": "pending",
            "owner": owner,
            "page": "/approvals/1/",
            "keys": [key["name"] for key in body["keys"] if key.get("owner", "alice") == owner],
        }
        for number, owner in enumerate(owners, 1001)
    ]
    return 201, {"requests": rows, "duplicates": []}


@pytest.fixture
def alice(house, terminal):
    house.api[("POST", IMPORTS)] = answer
    signed_in(terminal)
    return terminal


def write(tmp_path, text, name=".env"):
    path = tmp_path / name
    path.write_text(text)
    return path


def texts(rows):
    return {row.said["name"]: row.value for row in rows}


def test_a_dotenv_file_is_read_as_shells_write_it(tmp_path):
    path = write(
        tmp_path,
        "\ufeff# A comment\r\n"
        f"export OPENAI_API_KEY={CANARY}\n"
        "  QUOTED = 'single # quoted'   # and a comment\n"
        'ESCAPED="a\\nb \\"c\\" $HOME"\n'
        'PEM="-----BEGIN\nline two\n-----END"\n'
        "PLAIN=one two  # three\n"
        "EMPTY=\n"
        "ALSO_EMPTY=''\n"
        "NOTHING= # only a comment\n"
        "LAST=end",
    )

    assert texts(found_in_files.dotenv(path)) == {
        "openai-api-key": CANARY,
        "quoted": "single # quoted",
        "escaped": 'a\nb "c" $HOME',
        "pem": "-----BEGIN\nline two\n-----END",
        "plain": "one two",
        "last": "end",
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [(f"A=1\n{CANARY}\n", 2), (f'A="{CANARY}\n', 1), (f"B=2\n\nA='{CANARY}' tail'\n", 3)],
)
def test_a_line_that_cannot_be_read_is_named_and_not_repeated(tmp_path, text, line):
    path = write(tmp_path, text)

    with pytest.raises(Stop) as stopped:
        found_in_files.dotenv(path)

    assert f"{path}:{line}:" in str(stopped.value)
    assert CANARY not in str(stopped.value)


def test_a_table_says_of_each_key_what_it_knows(tmp_path):
    path = write(
        tmp_path,
        "Name,Value,Owner,Allowed_Hosts,Lifetime_Days,External_Input,option_user,Calendar\n"
        f'billing,"{CANARY}",carol,"a.example, b.example",60,yes,svc,mon 09:00\n'
        "\n"
        f"plain,{SECOND},,,,,,\n",
        "keys.csv",
    )

    first, second = found_in_files.table(path)

    assert found.body_of(first) == {
        "name": "billing",
        "value": CANARY,
        "owner": "carol",
        "allowed_hosts": ["a.example", "b.example"],
        "lifetime_days": 60,
        "calendar": "mon 09:00",
        "external_input": True,
        "options": {"user": "svc"},
    }
    assert found.body_of(second) == {"name": "plain", "value": SECOND}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"name\n{CANARY}\n", "no column 'value'"),
        ("name,value,colour\n", "a column 'colour'"),
        ("name,value,name\n", "a column twice"),
        (f"name,value\na,{CANARY},more\n", ":2: this row"),
        (f'name,value\na,"{CANARY}\n', "this row"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_without_its_cells(tmp_path, text, says):
    with pytest.raises(Stop, match=says) as stopped:
        found_in_files.table(write(tmp_path, text, "keys.csv"))

    assert CANARY not in str(stopped.value)


def test_a_number_that_is_none_is_refused(tmp_path):
    (row,) = found_in_files.table(write(tmp_path, "name,value,lifetime_days\na,12345678,soon\n"))

    with pytest.raises(Stop, match="lifetime_days is a whole number"):
        found.body_of(row)


def test_one_call_brings_one_owner_and_at_most_two_hundred():
    rows = [Found("f", f"v{n}", {"name": f"k{n}", "owner": "Carol"}) for n in range(250)]
    rows.insert(3, Found("f", "x", {"name": "mine"}))

    sizes = [(batch[0].owner, len(batch)) for batch in found.calls(rows)]

    assert sizes == [("carol", 200), ("carol", 50), ("", 1)]


def test_long_values_are_spread_over_calls():
    rows = [Found("f", "x" * 16_000, {"name": f"k{n}"}) for n in range(100)]

    assert [len(batch) for batch in found.calls(rows)] == [37, 37, 26]


def test_a_file_becomes_one_request_and_nothing_shows_a_value(house, alice, tmp_path):
    path = write(tmp_path, f"OPENAI_API_KEY={CANARY}\nSAME={CANARY}\nOTHER={SECOND}\nDEBUG=true\n")

    done = alice.run("import", "dotenv", str(path), *PLACE, *WHY, "--prefix", "web-")

    assert done.returncode == 0, done.stderr
    (body,) = house.bodies
    assert [(key["name"], key["value"]) for key in body["keys"]] == [
        ("web-openai-api-key", CANARY),
        ("web-other", SECOND),
    ]
    assert body["keys"][0]["connection"] == "openai"
    assert "web-same stands there twice, as web-openai-api-key" in done.stdout
    assert "web-debug is too short for a secret" in done.stdout
    assert "REQ-1001" in done.stdout
    assert "2 of 4 asked for. Nothing was changed where they come from." in done.stdout
    assert "canary" not in done.stdout + done.stderr


def test_each_owner_is_a_call_of_their_own(house, alice, tmp_path):
    table = f"name,value,owner\na-key,{CANARY},alice\nb-key,{SECOND},carol\n"

    done = alice.run("import", "csv", str(write(tmp_path, table, "k.csv")), *PLACE, *WHY, "--json")

    assert done.returncode == 0, done.stderr
    assert [row["owner"] for row in json.loads(done.stdout)["requests"]] == ["alice", "carol"]
    assert len(house.bodies) == 2
    assert "canary" not in done.stdout


def test_names_are_chosen_and_a_dry_run_brings_nothing(house, alice, tmp_path):
    path = write(tmp_path, f"OPENAI_KEY={CANARY}\nOPENAI_ORG=org-12345678\nAWS_KEY={SECOND}\n")

    done = alice.run(
        "import", "dotenv", str(path), "--only", "openai*", "--skip", "*_ORG", "--dry-run"
    )

    assert done.returncode == 0, done.stderr
    assert "openai-key" in done.stdout
    assert "aws-key" not in done.stdout + done.stderr
    assert "openai-org" not in done.stdout
    assert "canary" not in done.stdout
    assert house.bodies == []


def test_a_fault_is_told_by_the_line_that_it_stands_in(house, alice, tmp_path):
    house.api[("POST", IMPORTS)] = (
        422,
        {
            "type": "urn:keyvault:problem:invalid",
            "title": "What is asked cannot be",
            "detail": "Mend the fields in `errors`.",
            "errors": [{"detail": "The name x is taken.", "pointer": "/keys/1/name"}],
        },
    )
    path = write(tmp_path, f"A_KEY={CANARY}\n\nB_KEY={SECOND}\n")

    done = alice.run("import", "dotenv", str(path), *PLACE, *WHY)

    assert done.returncode == 4
    assert f"{path}:3: name: The name x is taken." in done.stderr
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (PLACE, "--reason WHY"),
        ((*PLACE[:4], *WHY), "say its team"),
        ((*PLACE, *WHY, "--only", "nothing"), "no value to bring"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_sent(house, alice, tmp_path, arguments, says):
    done = alice.run("import", "dotenv", str(write(tmp_path, f"A={CANARY}\n")), *arguments)

    assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    assert house.bodies == []
