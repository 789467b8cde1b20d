"""`keyvault run` and `get` as processes against a real server."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from keyvault.cli import run as run_command
from keyvault.cli.keyspecs import KeySpec
from keyvault.launcher.sentences import Stop
from tests.keyvault.client import house as houses
from tests.servers import free_port

KEY = ("--key", "openai-prod=OPENAI_API_KEY")
PRINT_LENGTH = "import os; print(len(os.environ['OPENAI_API_KEY']))"


def python(code: str) -> tuple[str, ...]:
    return ("--", sys.executable, "-c", code)


def line_of(process: subprocess.Popen) -> str:
    return process.stdout.readline().decode().strip()


@pytest.fixture
def agent(terminal):
    return terminal.as_agent()


def test_a_command_gets_its_key_and_only_it(agent):
    code = "import os; print(sorted(k for k in os.environ if 'KEY' in k or 'SECRET' in k))"

    result = agent.run("run", *KEY, *python(code))

    assert result.returncode == 0, result.stderr
    assert eval(result.stdout) == ["KEYVAULT_CLIENT_ID", "KEYVAULT_URL", "OPENAI_API_KEY"]


def test_the_identity_stays_when_the_command_reads_keys_itself(agent):
    code = "import os; print('KEYVAULT_CLIENT_SECRET' in os.environ)"

    assert agent.run("run", *KEY, "--keep-identity", *python(code)).stdout == "True\n"


def test_the_variable_is_the_name_in_capitals_unless_given(agent):
    code = "import os; print(len(os.environ['OPENAI_PROD']))"

    assert agent.run("run", "--key", "openai-prod", *python(code)).stdout == "14\n"


def test_the_fields_of_a_key_go_into_a_variable_each(house, agent):
    house.put("orders-db", {"username": "reader", "password": "p4ss-word"})
    code = "import os; print(len(os.environ['DB_USERNAME']), len(os.environ['P']))"

    keys = ("--key", "orders-db=DB", "--key", "orders-db.password=P")

    assert agent.run("run", *keys, *python(code)).stdout == "6 9\n"


def test_values_are_masked_in_both_streams(agent):
    code = (
        "import os, sys, base64; k = os.environ['OPENAI_API_KEY'];"
        "print('key', k, base64.b64encode(k.encode()).decode(), flush=True);"
        "print('key', k, file=sys.stderr)"
    )

    result = agent.run("run", *KEY, *python(code))

    assert (result.stdout, result.stderr) == ("key *** ***\n", "key ***\n")


def test_binary_output_passes_byte_for_byte(agent):
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 2000)"

    process = agent.start("run", *KEY, *python(code))

    assert process.communicate(timeout=60)[0] == bytes(range(256)) * 2000


def test_a_line_arrives_when_it_is_printed(agent):
    code = "import time; print('first', flush=True); time.sleep(30)"
    process = agent.start("run", *KEY, *python(code))

    assert line_of(process) == "first"

    process.terminate()
    assert process.wait(timeout=10) == 128 + signal.SIGTERM


def test_input_reaches_the_command(agent):
    process = agent.start("run", *KEY, "--", "cat", stdin=subprocess.PIPE)

    assert process.communicate(b"typed", timeout=60)[0] == b"typed"


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_that_of_the_command(agent, code):
    assert agent.run("run", *KEY, *python(f"raise SystemExit({code})")).returncode == code


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_a_command_that_a_signal_killed_gives_128_and_its_number(agent, name):
    code = f"import os, signal; os.kill(os.getpid(), signal.{name})"

    assert agent.run("run", *KEY, *python(code)).returncode == 128 + getattr(signal, name)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT"])
def test_signals_are_passed_on(agent, name):
    code = (
        "import os, signal, sys, time;"
        f"signal.signal(signal.{name}, lambda n, f: (os.write(1, b'got %d' % n), sys.exit(9)));"
        "print('up', flush=True); time.sleep(30)"
    )
    process = agent.start("run", *KEY, *python(code))
    assert line_of(process) == "up"

    process.send_signal(getattr(signal, name))

    assert line_of(process) == f"got {int(getattr(signal, name))}"
    assert process.wait(timeout=10) == 9


def test_a_closed_directory_of_the_path_does_not_hide_that_a_command_is_missing(agent, tmp_path):
    closed = tmp_path / "not-a-directory"
    closed.write_text("")
    agent.env["PATH"] = f"{closed}:{agent.env['PATH']}"

    result = agent.run("run", *KEY, "--", "no-such-command")

    assert (result.returncode, result.stdout) == (127, "")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["no-such-command"], 127, "there is no command 'no-such-command'"),
        (["/etc/passwd"], 126, "cannot be run: Permission denied"),
    ],
)
def test_a_command_that_cannot_start_has_the_codes_of_a_shell(agent, command, code, words):
    result = agent.run("run", *KEY, "--", *command)

    assert (result.returncode, result.stdout) == (code, "")
    assert words in result.stderr


def test_a_key_that_is_not_granted_starts_nothing_and_says_how_to_ask(agent, tmp_path):
    mark = tmp_path / "started"

    result = agent.run("run", "--key", "somebody-elses", "--", "touch", str(mark))

    assert result.returncode == 125
    assert result.stderr.startswith("keyvault: You have no key of this name.")
    assert len(result.stderr.splitlines()) == 1
    assert not mark.exists()


def test_a_server_that_is_away_starts_nothing_and_is_named(agent, tmp_path):
    port = free_port()
    agent.env["KEYVAULT_URL"] = f"http://127.0.0.1:{port}"

    result = agent.run("run", *KEY, "--", "touch", str(tmp_path / "started"))

    assert result.returncode == 125
    assert result.stderr == (
        f"keyvault: keyvault at http://127.0.0.1:{port} is away: nobody listens there.\n"
    )
    assert not (tmp_path / "started").exists()


def test_without_keys_nobody_is_asked(terminal):
    assert terminal.run("run", "--", "echo", "hello").stdout == "hello\n"
    assert terminal.house.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", *KEY],
        ["run", *KEY, "--"],
        ["run", "--key", "No Name", "--", "true"],
        ["run", "--key", "a=1B", "--", "true"],
        ["run", "--on-change", "signal:NOPE", *KEY, "--", "true"],
        ["run", "--on-change", "fly", *KEY, "--", "true"],
    ],
)
def test_wrong_usage_is_one_sentence(agent, arguments):
    result = agent.run(*arguments)

    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_a_moved_version_restarts_the_command_with_the_new_value(house, agent):
    code = "import os, time; print(len(os.environ['OPENAI_API_KEY']), flush=True); time.sleep(30)"
    process = agent.start("run", *KEY, "--on-change", "restart", *python(code))
    assert line_of(process) == "14"
    await_watch(house)

    house.put("openai-prod", "sk-second-and-longer")

    assert line_of(process) == "20"
    process.terminate()
    assert process.wait(timeout=10) == 128 + signal.SIGTERM


def test_a_command_that_does_not_end_in_its_grace_is_killed_and_replaced(house, agent):
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(len(os.environ['OPENAI_API_KEY']), flush=True); time.sleep(30)"
    )
    process = agent.start("run", *KEY, "--on-change", "restart", "--grace", "0.3", *python(code))
    assert line_of(process) == "14"
    await_watch(house)

    house.put("openai-prod", "sk-second-and-longer")

    assert line_of(process) == "20"
    process.kill()
    process.wait()


def test_a_moved_version_signals_the_command(house, agent):
    code = (
        "import os, signal, time; signal.signal(signal.SIGHUP, lambda n, f: os.write(1, b'hup\\n'));"
        "print('up', flush=True)\nwhile True: time.sleep(0.1)"
    )
    process = agent.start("run", *KEY, "--on-change", "signal:HUP", *python(code))
    assert line_of(process) == "up"
    await_watch(house)

    house.put("openai-prod", "sk-second")

    assert line_of(process) == "hup"
    process.terminate()
    process.wait(timeout=10)


def test_the_new_and_the_old_value_are_masked_after_a_restart(house, agent):
    code = (
        "import os, time; print('sk-first-value', os.environ['OPENAI_API_KEY'], flush=True);"
        "time.sleep(30)"
    )
    process = agent.start("run", *KEY, "--on-change", "restart", *python(code))
    assert line_of(process) == "*** ***"
    await_watch(house)

    house.put("openai-prod", "sk-second-value")

    assert line_of(process) == "*** ***"
    process.terminate()
    process.wait(timeout=10)


def test_a_right_that_ends_leaves_the_command_running_and_is_said(house, agent):
    code = "print('up', flush=True); import sys; sys.exit(len(sys.stdin.read()))"
    process = agent.start(
        "run", *KEY, "--on-change", "restart", *python(code), stdin=subprocess.PIPE
    )
    assert line_of(process) == "up"
    await_watch(house)
    house.end_tokens()
    house.token_status = 401
    house.put("openai-prod", "sk-second")

    said = process.stderr.readline().decode()

    assert said.endswith("The command goes on with what it has.\n")
    assert process.communicate(b"12345", timeout=60)
    assert process.returncode == 5


def await_watch(house: houses.House) -> None:
    """Wait until somebody follows the stream, and has asked once more since."""
    until = time.monotonic() + 10
    while ("GET", "/v1/watch") not in house.asked:
        assert time.monotonic() < until
        time.sleep(0.02)
    at = house.asked.index(("GET", "/v1/watch"))
    while ("GET", "/v1/keys/openai-prod") not in house.asked[at:]:
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(0.1)


def test_the_masks_of_a_spec_are_those_of_its_values():
    assert KeySpec.parse("a-b.c") == KeySpec("a-b", "c", "A_B_C")
    assert KeySpec.parse("a-b=X") == KeySpec("a-b", None, "X")


def test_on_change_names_a_signal():
    assert run_command._signal("signal:hup") == signal.SIGHUP
    assert run_command._signal("signal:SIGUSR1") == signal.SIGUSR1
    with pytest.raises(Stop):
        run_command._signal("signal:")


def test_get_prints_exactly_the_value_into_a_pipe(agent):
    result = agent.run("get", "openai-prod")

    assert (result.returncode, result.stdout, result.stderr) == (0, "sk-first-value", "")


def test_get_prints_another_version_when_asked(agent, house):
    house.pending["openai-prod"] = house.keys["openai-prod"] | {"version": 2, "value": "sk-next"}

    assert agent.run("get", "openai-prod", "--version", "pending").stdout == "sk-next"
    assert agent.run("get", "openai-prod", "--version", "1").stdout == "sk-first-value"
    refused = agent.run("get", "openai-prod", "--version", "9")
    assert (refused.returncode, refused.stdout) == (4, "")


def on_a_terminal(agent, *arguments: str) -> str:
    """Return what a command prints to a terminal."""
    ours, theirs = pty.openpty()
    process = agent.start(*arguments, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = b""
    try:
        while chunk := os.read(ours, 4096):
            printed += chunk
    except OSError:
        pass  # The other end is closed: that is the end.
    os.close(ours)
    process.wait(timeout=10)
    return printed.decode()


def test_get_hides_the_value_on_a_terminal_unless_asked(agent):
    hidden = on_a_terminal(agent, "get", "openai-prod")
    shown = on_a_terminal(agent, "get", "openai-prod", "--show")

    assert "sk-first-value" not in hidden
    assert "version     1" in hidden
    assert "print it with --show" in hidden
    assert shown == "sk-first-value\r\n"


def test_json_holds_the_value_only_when_asked(agent):
    plain = agent.run("get", "openai-prod", "--json").stdout
    shown = agent.run("get", "openai-prod", "--json", "--show").stdout

    assert "sk-first" not in plain
    assert '"version": 1' in plain
    assert '"value": "sk-first-value"' in shown


def test_get_names_the_fields_of_a_key_that_has_several(house, agent):
    house.put("orders-db", {"username": "reader", "password": "p4ss"})

    assert agent.run("get", "orders-db", "--field", "password").stdout == "p4ss"
    result = agent.run("get", "orders-db")
    assert (result.returncode, result.stdout) == (2, "")
    assert "username, password" in result.stderr


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"KEYVAULT_CLIENT_SECRET": "kvs_wrong"}, 5, "gives this program no token"),
        ({"KEYVAULT_URL": "http://kv.example"}, 2, "no https address"),
        ({"KEYVAULT_CLIENT_ID": "", "KEYVAULT_CLIENT_SECRET": ""}, 5, "keyvault login"),
    ],
)
def test_what_stands_in_the_way_has_its_code_and_a_sentence(agent, change, code, words):
    agent.env |= change

    result = agent.run("get", "openai-prod")

    assert (result.returncode, result.stdout) == (code, "")
    assert words in result.stderr
    assert "kvs_" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_server_that_is_away_is_said_with_its_wait(house, agent):
    house.status, house.retry_after = 503, "7"

    result = agent.run("get", "openai-prod")

    assert result.returncode == 3
    assert result.stderr == (
        f"keyvault: keyvault at {house.url} is away: it answered 503. Try again in 7 s.\n"
    )
