"""`keyvault run` in a terminal: its command has one too."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

from keyvault.cli import terminals
from tests.keyvault.cli.test_run import KEY, await_watch, line_of, python

BOUND_S = 30
SLEEP = "print('up', flush=True); time.sleep(60)"


class Window:
    """A terminal with `keyvault run` in its foreground."""

    def __init__(self, agent) -> None:
        self.agent, self.shown = agent, ""
        self.screen, self.theirs = os.openpty()
        termios.tcsetwinsize(self.theirs, (33, 101))
        self.attributes = termios.tcgetattr(self.theirs)

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        """Start it, its streams in the window unless given."""
        streams = {"stdin": self.theirs, "stdout": self.theirs, "stderr": self.theirs}
        return self.agent.start(
            "run",
            *KEY,
            *arguments,
            start_new_session=True,
            preexec_fn=terminals.control,
            **{**streams, **options},
        )

    def until(self, text: str) -> str:
        """Read until the text is shown; return everything that was shown."""
        end = time.monotonic() + BOUND_S
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            if select.select([self.screen], [], [], 0.2)[0]:
                self.shown += os.read(self.screen, 4096).decode()
        return self.shown

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.screen, keys.encode())

    def is_as_before(self) -> bool:
        """Say whether the terminal is set as it was before anything started."""
        return termios.tcgetattr(self.theirs) == self.attributes


@pytest.fixture
def window(terminal):
    found = Window(terminal.as_agent())
    yield found
    for process in found.agent.started:
        process.kill()
        process.wait()
    os.close(found.theirs)
    os.close(found.screen)


def test_the_three_streams_are_a_terminal_of_the_size_of_ours(window):
    code = (
        "import os; print([os.isatty(n) for n in range(3)], *os.get_terminal_size(), os.ttyname(0))"
    )

    process = window.start(*python(code + "; print('done')"))

    shown = window.until("done")
    assert "[True, True, True] 101 33" in shown
    assert os.ttyname(window.theirs) + "\r" not in shown
    assert process.wait(timeout=BOUND_S) == 0
    assert window.is_as_before()


def test_an_interactive_python_answers_what_is_typed(window):
    process = window.start("--", sys.executable, "-q", "-i", "-c", "import sys; sys.ps1 = '>>> '")
    window.until(">>> ")
    assert not window.is_as_before()

    window.type("print(6 * 7)\r")
    window.until("42\r\n")
    window.type("raise SystemExit(7)\r")

    assert process.wait(timeout=BOUND_S) == 7
    assert window.is_as_before()


def test_a_new_size_reaches_the_command(window):
    code = (
        "import os, signal, time;"
        "signal.signal(signal.SIGWINCH, lambda *_: print('size', *os.get_terminal_size()));"
    )
    window.start(*python(code + SLEEP))
    window.until("up")

    termios.tcsetwinsize(window.screen, (20, 60))

    window.until("size 60 20")


def test_ctrl_c_goes_to_the_foreground_group_alone(window):
    job = "import time\ntry:\n    print('up', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('broken off')"
    code = (
        "import os, signal, subprocess, sys;"
        "signal.signal(signal.SIGTTOU, signal.SIG_IGN);"
        f"job = subprocess.Popen([sys.executable, '-c', {job!r}], process_group=0);"
        "os.tcsetpgrp(0, job.pid); job.wait(); os.tcsetpgrp(0, os.getpgrp()); raise SystemExit(5)"
    )
    process = window.start(*python(code))
    window.until("up")
    # The foreground is handed over just after the start of the job: press until it is heard.
    end = time.monotonic() + BOUND_S
    while "broken off" not in window.shown and time.monotonic() < end:
        window.type("\x03")
        if select.select([window.screen], [], [], 0.5)[0]:
            window.shown += os.read(window.screen, 4096).decode()

    assert "broken off" in window.shown
    assert process.wait(timeout=BOUND_S) == 5


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_our_own_end_by_a_signal_ends_the_command_and_restores_the_terminal(window, name):
    number = getattr(signal, name)
    process = window.start(
        *python(f"import time, signal; signal.signal({int(number)}, signal.SIG_DFL);" + SLEEP)
    )
    window.until("up")

    process.send_signal(number)

    assert process.wait(timeout=BOUND_S) == 128 + number
    assert window.is_as_before()


def test_a_command_that_is_missing_leaves_the_terminal_as_it_was(window):
    process = window.start("--", "no-such-command")

    assert process.wait(timeout=BOUND_S) == 127
    assert window.is_as_before()


def test_a_value_in_two_writes_is_masked(window):
    code = (
        "import os, tty; tty.setraw(0); k = os.environ['OPENAI_API_KEY'];"
        "os.write(1, b'<' + k[:5].encode()); os.read(0, 1); os.write(1, k[5:].encode() + b'>')"
    )
    window.start(*python(code))
    window.until("<")

    window.type("x")

    assert window.until(">") == "<***>"


def test_a_value_of_several_lines_is_masked_as_a_terminal_shows_it(house, window):
    house.put("openai-prod", "one\ntwo\nsix")

    window.start(*python("import os; print('<' + os.environ['OPENAI_API_KEY'] + '>')"))

    assert "<***>" in window.until(">")


def test_much_that_is_typed_at_once_comes_back_whole(window):
    code = (
        "import sys, tty; tty.setraw(0); print('up', flush=True); left = 200000\n"
        "while left:\n    data = sys.stdin.buffer.raw.read(min(left, 4096)); left -= len(data)\n"
        "    sys.stdout.buffer.raw.write(b'.' * len(data))\nprint('all')"
    )
    window.start(*python(code))
    window.until("up")
    os.set_blocking(window.screen, False)
    left, end = b"x" * 200_000, time.monotonic() + BOUND_S
    while left and time.monotonic() < end:
        readable, writable, _ = select.select([window.screen], [window.screen], [], 1)
        if readable:
            window.shown += os.read(window.screen, 4096).decode()
        if writable:
            left = left[os.write(window.screen, left[:1024]) :]

    assert window.until("all").count(".") == 200_000


def test_a_moved_version_restarts_the_command_in_a_terminal_again(house, window):
    code = "import os, time; print('length', len(os.environ['OPENAI_API_KEY']), os.isatty(0));"
    process = window.start("--on-change", "restart", *python(code + SLEEP))
    window.until("length 14 True")
    window.until("up")
    await_watch(house)

    house.put("openai-prod", "sk-second-and-longer")

    window.until("length 20 True")
    process.terminate()
    assert process.wait(timeout=BOUND_S) == 128 + signal.SIGTERM
    assert window.is_as_before()


def test_errors_that_go_elsewhere_stay_there_masked(window):
    code = "import os, sys; print(os.environ['OPENAI_API_KEY'], os.isatty(2), file=sys.stderr)"

    process = window.start(*python(code), stderr=subprocess.PIPE)

    assert process.stderr.readline() == b"*** False\n"
    assert process.wait(timeout=BOUND_S) == 0


def test_output_into_a_pipe_stays_in_pipes(window):
    code = "import os; print(os.isatty(0), os.isatty(1), flush=True)"

    process = window.start(*python(code), stdout=subprocess.PIPE)

    assert line_of(process) == "True False"
    assert window.is_as_before()
