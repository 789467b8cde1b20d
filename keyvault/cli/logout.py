"""`keyvault logout`: end the token that `login` has left here, on the server too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from keyvault.cli import home
from keyvault.cli.codes import Exit
from keyvault.launcher.arguments import Arguments

if TYPE_CHECKING:
    from keyvault.client.calls import Flow
    from keyvault.client.core import Core


def run(argv: Sequence[str]) -> int:
    """Remove the token here, then end it there; says when the server could not be told."""
    Arguments(prog="keyvault logout", description="End the token of login.").parse_args(argv)
    who = home.forget()
    if who is None:
        print("Nobody was signed in here.")
        return Exit.DONE
    from keyvault.client import Away, Client  # noqa: PLC0415
    from keyvault.client.settings import Settings  # noqa: PLC0415

    settings = Settings(url=who.url, ca_file=os.environ.get("KEYVAULT_CA_FILE"))
    try:
        with Client(settings=settings) as client:
            is_ended = client.do(_ended(client.core, who.token))
    except Away:
        is_ended = False
    if not is_ended:
        print(f"The token is gone from here. {who.url} could not be told; it ends by itself.")
        return Exit.AWAY
    print(f"Signed out of {who.url}.")
    return Exit.DONE


def _ended(core: Core, token: str) -> Flow[bool]:
    """Revoke a token (RFC 7009) and say whether the server took it. Raises Away."""
    from keyvault.client import calls  # noqa: PLC0415

    where = yield from core.addresses()
    answer = yield calls.form(f"{where.api}/oauth/revoke", {"token": token})
    return bool(answer.status == HTTPStatus.OK)
