"""`keyvault doctor`: say in sentences what is wrong here and how to mend it.

Where an installation was started, it is looked at from inside; elsewhere this
is a client, and what it needs to reach its server is tried step by step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from keyvault.cli import connecting, handover, home, printing
from keyvault.cli.codes import Exit
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from keyvault.client import Client
    from keyvault.client.calls import Flow
    from keyvault.client.core import Core

_SKEW_S = 30


def run(argv: Sequence[str]) -> int:
    """Become the Django command that looks, or look from outside. Raises Stop."""
    data, rest = handover.split_data(argv)
    try:
        return handover.to_django(["doctor", *(w for w in rest if w != "--json")], data=data)
    except Stop:
        if data is not None:
            raise
    faults = list(_faults())
    if "--json" in rest:
        printing.as_json({"faults": faults})
    else:
        print("There is no installation here, so this looks at the client.")
        print("\n".join([*(f"- {fault}" for fault in faults), _summary(faults)]))
    return Exit.FAILED if faults else Exit.DONE


def _summary(faults: Sequence[str]) -> str:
    return f"{len(faults)} fault{'s' if len(faults) > 1 else ''}" if faults else "all is well"


def _faults() -> Iterator[str]:
    """Yield one sentence for each fault; a step that fails makes those after it pointless."""
    try:
        with connecting.connected() as caller:
            yield from _skewed(caller.client)
            if not caller.person:
                caller.client.do(_token(caller.client.core))
            caller.client.do(_gateway(caller.client.core))
            yield from _ending()
    except Stop as stop:
        yield str(stop)


def _skewed(client: Client) -> Iterator[str]:
    """Compare clocks: tokens and assertions are judged by the server's."""
    text = client.do(_date(client.core))
    at = parsedate_to_datetime(text) if text else datetime.now(UTC)
    skew_s = time.time() - at.timestamp()
    if abs(skew_s) > _SKEW_S:
        yield f"The clock here is {skew_s:+.0f} s off the server's. Set it by NTP."


def _ending() -> Iterator[str]:
    who = home.load()
    if (
        who is not None
        and not os.environ.get("KEYVAULT_CLIENT_ID")
        and who.expires_at < time.time()
    ):
        yield "The token of the last sign-in is over. Sign in: keyvault login"


def _date(core: Core) -> Flow[str]:
    from keyvault.client import calls  # noqa: PLC0415
    from keyvault.client.core import WELL_KNOWN  # noqa: PLC0415

    answer = yield calls.Call("GET", f"{core.settings.url}{WELL_KNOWN}")
    yield from core.addresses()
    return str(answer.headers.get("date", ""))


def _token(core: Core) -> Flow[None]:
    """Get a token as the environment says. Raises BadIdentity, Away."""
    yield from core.token()


def _gateway(core: Core) -> Flow[None]:
    """Ask the gateway whether it lives. Raises Away."""
    from keyvault.client import answers, calls  # noqa: PLC0415

    where = (yield from core.addresses()).gateway
    answer = yield calls.Call("GET", f"{where}/healthz")
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise answers.away(answer, where)
