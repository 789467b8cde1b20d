"""The command line: quick to answer, one sentence for what it cannot do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from keyvault.cli import completion, demo, handover, main, verify
from keyvault.cli.codes import MEANINGS, Exit
from keyvault.launcher.installation import ROOT
from keyvault.launcher.sentences import Stop
from tests.servers import free_port


def command(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "keyvault.cli", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": os.environ.get("HOME", "/"),
        },
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_it_loads_the_standard_library_only():
    code = "import sys, keyvault.cli.main; print([m for m in sys.modules if '.' not in m])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name for name in eval(result.stdout) if not name.startswith("_")}

    assert loaded - set(sys.stdlib_module_names) <= {
        "keyvault",
        "sitecustomize",
        "distutils-precedence",
    }


# What makes a start slow, or has no business in the memory of a client: the server and its parts.
HEAVY = {"asyncio", "celery", "cryptography", "django", "httpx", "joserfc", "multiprocessing"}
HEAVY |= {"msgspec", "ninja", "psycopg", "pydantic", "redis", "webbrowser"}
NETWORK = {"email", "http.client", "keyvault.client", "socket", "ssl", "urllib.request"}


def loaded_by(*arguments: str, **environment: str) -> tuple[int, set[str]]:
    """Run a command to its end; return its exit code and every module it has loaded."""
    code = (
        "import sys; from keyvault.cli.main import main; code = main(sys.argv[1:]);"
        "print('\\n', int(code), *sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    status, *modules = result.stdout.splitlines()[-1].split()
    return int(status), set(modules)


def test_help_loads_nothing_that_makes_it_wait():
    code, modules = loaded_by("--help")

    assert code == Exit.DONE
    assert not modules & (HEAVY | NETWORK | {"argparse", "json"})


def test_a_get_that_lacks_its_address_loads_no_network(tmp_path):
    code, modules = loaded_by("get", "a-key", HOME=str(tmp_path))

    assert code == Exit.USAGE
    assert not modules & (HEAVY | NETWORK - {"keyvault.client"})


def test_a_get_without_a_server_loads_the_standard_library_and_the_client_only(tmp_path):
    nobody = f"http://127.0.0.1:{free_port()}"

    code, modules = loaded_by(
        "get", "a-key", HOME=str(tmp_path), KEYVAULT_URL=nobody, KEYVAULT_TOKEN="kvt_x"
    )

    assert code == Exit.AWAY
    assert "http.client" in modules
    assert not modules & HEAVY
    ours = {name.split(".")[1] for name in modules if name.startswith("keyvault.")}
    assert ours == {"cli", "client", "crypto", "launcher"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], "there is no command 'fly'. Commands: up, test"),
        (["up", "--prot", "1"], "unrecognized arguments: --prot 1. See: keyvault up --help"),
        (["demo", "code"], "required: name"),
        (["audit", "burn"], "audit takes verify, export, search or read"),
        (["verify"], "verify takes a file"),
        (["verify", "no-such-file"], "no-such-file does not exist"),
        (["check", "nonsense"], "there is no check 'nonsense'"),
        (["bench", "nonsense"], "there is no such benchmark"),
        (["manage"], "manage takes the name"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(arguments, words):
    result = command(*arguments)

    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    "name",
    [
        "login",
        "logout",
        "get",
        "run",
        "template",
        "request",
        "rotate",
        "plan",
        "apply",
        "agents",
        "completion",
        "doctor",
    ],
)
def test_a_command_begins_without_what_it_may_not_need(name):
    """What is slow to load is loaded once somebody is called: no network, no framework."""
    code = (
        "import importlib, sys; from keyvault.cli.main import COMMANDS;"
        f"importlib.import_module(COMMANDS[{name!r}].module); print(sorted(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert not set(eval(result.stdout)) & {
        "asyncio",
        "celery",
        "cryptography",
        "django",
        "http.client",
        "httpx",
        "joserfc",
        "keyvault.client",
        "ssl",
        "urllib.request",
        "webbrowser",
    }


def test_a_command_that_calls_somebody_needs_no_httpx():
    code = "import sys; from keyvault.client import Client; print('httpx' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert result.stdout == "False\n"


def test_the_page_of_the_command_line_names_every_command_and_code():
    page = (ROOT / "docs/cli.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    commands = {name for first, _ in rows for name in re.findall(r"`([a-z-]+)`", first)}
    listed = {int(first): meaning for first, meaning in rows if first.isdigit()}

    assert commands == set(main.COMMANDS)
    assert listed == {int(code): meaning for code, meaning in MEANINGS.items()}
    assert set(MEANINGS) == set(Exit)


def test_completion_offers_what_there_is():
    for name, words in completion.WORDS.items():
        assert name in main.COMMANDS
        helped = command(name, "--help").stdout
        for word in words:
            assert word == "--" or word in helped or name == "audit", (name, word)


def test_bash_completes_commands_and_their_words():
    script = command("completion", "bash").stdout
    ask = "COMP_WORDS=(keyvault {}); COMP_CWORD={}; _keyvault; echo ${{COMPREPLY[@]}}"
    lines = f"{script}\n{ask.format('tem', 1)}\n{ask.format('request w', 2)}"
    result = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines() == ["template", "withdraw"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_command(shell):
    script = command("completion", shell).stdout

    assert all(name in script for name in main.COMMANDS)


def test_help_names_every_command():
    result = command("--help")

    assert result.returncode == 0
    assert all(f"  {name} " in result.stdout for name in main.COMMANDS)


def test_every_command_has_its_module():
    for name, entry in main.COMMANDS.items():
        path = ROOT / (entry.module.replace(".", "/") + ".py")
        assert path.exists(), name


def test_an_installation_that_never_started_is_one_sentence(tmp_path):
    result = command("manage", "--data", str(tmp_path), "check")

    assert result.returncode == 1
    assert "Start it: ./kv up" in result.stderr


def test_an_error_of_the_system_is_a_sentence_with_its_mend(monkeypatch, capsys):
    def full(_arguments):
        raise OSError(28, "No space left on device", "/data/log")

    monkeypatch.setattr(main, "_dispatch", full)

    assert main.main(["up"]) == 1
    said = capsys.readouterr().err
    assert said == (
        "keyvault: No space left on device (/data/log). "
        "Free some space, or choose another place with --data.\n"
    )


def test_codes_are_those_of_rfc_6238():
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

    assert [demo.totp(secret, at // 30) for at in (59, 1111111109, 20000000000)] == [
        "287082",
        "081804",
        "353130",
    ]


def test_a_demo_code_comes_with_its_seconds_left(tmp_path, capsys, monkeypatch):
    person = {"username": "bob", "password": "p", "totp_secret": "GEZDGNBVGY3TQOJQ", "roles": []}
    (tmp_path / "demo.json").write_text(json.dumps({"people": [person]}))
    monkeypatch.setattr(demo.time, "time", lambda: 61.0)

    assert demo.run(["--data", str(tmp_path), "code", "bob"]) == 0
    assert capsys.readouterr().out == f"{demo.totp('GEZDGNBVGY3TQOJQ', 2)}  29 s left\n"


def test_an_unknown_person_of_the_demo_is_answered_with_the_known(tmp_path):
    (tmp_path / "demo.json").write_text('{"people": []}')

    with pytest.raises(Stop, match="there is no zoe in the demo"):
        demo.run(["--data", str(tmp_path), "code", "zoe"])


@pytest.mark.parametrize(
    ("content", "module"),
    [
        ('{"receipt": {}, "signature": ""}', verify.RECEIPT),
        ('{"proof": {"receipt": 1}}', verify.LEDGER),
        ('{"seq": 1}\n{"seq": 2}', verify.LEDGER),
    ],
)
def test_verify_knows_a_receipt_from_an_export(tmp_path, content, module):
    path = tmp_path / "file"
    path.write_text(content)

    assert verify._verifier(path) == module


@pytest.mark.parametrize("argv", [["--data", "D", "verify", "-x"], ["verify", "--data", "D", "-x"]])
def test_the_data_directory_may_stand_anywhere(argv):
    assert handover.split_data(argv) == ("D", ["verify", "-x"])


def test_a_data_option_without_its_directory_is_refused():
    with pytest.raises(Stop, match="--data takes a directory"):
        handover.split_data(["verify", "--data"])
