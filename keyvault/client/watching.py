"""Follow keys as their versions move: by the gateway's event stream, by asking where there is none."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode

from keyvault.client import answers
from keyvault.client.calls import Answer, Away, Call, Flow, Hear, Pause, Tell
from keyvault.client.core import Core
from keyvault.client.events import Parser, TooLong

# A stream that is silent for so long is dead: the gateway sends a comment far more often.
DEAF_S = 60.0
_FIRST_WAIT_S = 1.0


def watch(core: Core, names: tuple[str, ...]) -> Flow[None]:
    """Tell each key's value, and tell it again whenever its version moves.

    While the server is away it waits and goes on. Raises NotGranted or
    BadIdentity once a key may no longer be read.
    """
    seen: dict[str, str] = {}
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            yield from _tell_moved(core, names, seen)
            is_streamed = yield from _listened(core, names, seen)
        except Away as away:
            yield Pause(away.retry_after_s or wait_s)
            wait_s = min(wait_s * 2, core.settings.refresh_s)
            continue
        wait_s = _FIRST_WAIT_S
        yield Pause(_FIRST_WAIT_S if is_streamed else core.settings.refresh_s)


def _tell_moved(core: Core, names: tuple[str, ...], seen: dict[str, str]) -> Flow[None]:
    """Ask for every key and tell those that differ from what was told before."""
    for name in names:
        value = yield from core.refresh(name)
        mark = f"{value.version} {value.etag}"
        if seen.get(name) != mark:
            seen[name] = mark
            yield Tell(value)


def _listened(core: Core, names: tuple[str, ...], seen: dict[str, str]) -> Flow[bool]:
    """Follow the stream to its end; False where the gateway offers none."""
    where = (yield from core.addresses()).gateway
    url = f"{where}/v1/watch?{urlencode({'names': ','.join(names)})}"
    call = Call("GET", url, {"Accept": "text/event-stream"}, None, core.settings.timeout_s)
    answer: Answer = yield from core.asked(call, as_stream=True)
    if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED}:
        return False
    if answer.status != HTTPStatus.OK:
        raise answers.refusal(answer, where)
    # What moved while no stream was open is found by asking once.
    yield from _tell_moved(core, names, seen)
    yield from _heard(core, names, seen)
    return True


def _heard(core: Core, names: tuple[str, ...], seen: dict[str, str]) -> Flow[None]:
    parser = Parser()
    while chunk := (yield Hear(DEAF_S)):
        try:
            events = parser.feed(chunk)
        except TooLong:
            return
        if events:
            yield from _tell_moved(core, names, seen)
