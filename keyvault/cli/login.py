"""`keyvault login`: sign in as a person through the browser (device flow, RFC 8628).

The token that comes of it lives 8 hours at most and opens metadata and
requests, never a value.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from keyvault.cli import connecting, home
from keyvault.cli.codes import Exit
from keyvault.launcher.arguments import Arguments
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from keyvault.client.calls import Flow
    from keyvault.client.core import Core

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SLOWER_S = 5
_ENDS = {
    "access_denied": "the sign-in was refused in the browser.",
    "expired_token": "nobody confirmed in time. Begin again: keyvault login",
}


def run(argv: Sequence[str]) -> int:
    """Sign in, and keep the token. Raises Stop."""
    parser = Arguments(
        prog="keyvault login", description="Sign in as a person, through the browser."
    )
    parser.add_argument(
        "url", nargs="?", help="the console (default: KEYVAULT_URL, or the last one)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser here")
    given = parser.parse_args(argv)
    from keyvault.client import Client  # noqa: PLC0415
    from keyvault.client.settings import Settings  # noqa: PLC0415

    with connecting.said():
        settings = Settings(url=_url(given.url), ca_file=os.environ.get("KEYVAULT_CA_FILE"))
        with Client(settings=settings) as client:
            got = client.do(_signed_in(client.core, lambda said: _show(said, browser=given.open)))
    url = settings.url.rstrip("/")
    who = home.SignedIn(
        url=url,
        person=str(got.get("person", "")) or "you",
        expires_at=time.time() + float(got["expires_in"]),
        token=got["access_token"],
    )
    print(f"Signed in at {url} as {who.person}, for {float(got['expires_in']) / 3600:.0f} hours.")
    print(f"The token is in {home.save(who)}; end it with: keyvault logout")
    return Exit.DONE


def _url(given: str | None) -> str:
    if found := given or os.environ.get("KEYVAULT_URL"):
        return found
    before = home.load()
    if before is None:
        raise Stop("say where: keyvault login https://keyvault.example", code=Exit.USAGE)
    return before.url


def _signed_in(core: Core, show: Callable[[dict[str, Any]], None]) -> Flow[dict[str, Any]]:
    """Ask for a code, show it, and return what the token endpoint gives. Raises Stop, Away."""
    from keyvault.client import answers, calls  # noqa: PLC0415

    where = yield from core.addresses()
    name = f"{os.environ.get('USER', 'somebody')} on {socket.gethostname()}"
    answer = yield calls.form(where.device_authorization_endpoint, {"client_name": name})
    said = answer.json()
    if answer.status != HTTPStatus.OK or "device_code" not in said:
        raise answers.token_refusal(answer, core.settings.url)
    show(said)
    interval_s, ends_at = float(said.get("interval", 5)), core.clock() + float(said["expires_in"])
    fields = {"grant_type": GRANT, "device_code": said["device_code"]}
    while core.clock() < ends_at:
        yield calls.Pause(interval_s)
        try:
            answer = yield calls.form(where.token_endpoint, fields)
            if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise answers.away(answer, where.api)
        except calls.Away:
            # RFC 8628 section 3.5: after a time-out, more slowly. The code holds on.
            interval_s += SLOWER_S
            continue
        got: dict[str, Any] = answer.json()
        if answer.status == HTTPStatus.OK and "access_token" in got:
            return got
        interval_s += _slower_by(got.get("error"), answers.token_refusal(answer, where.api))
    raise Stop(_ENDS["expired_token"], code=Exit.NOT_SIGNED_IN)


def _slower_by(error: object, refusal: Exception) -> float:
    """Return by how many seconds to poll more slowly. Raises Stop and `refusal`: it is over."""
    if error == "authorization_pending":
        return 0
    if error == "slow_down":
        return SLOWER_S
    if error in _ENDS:
        raise Stop(_ENDS[str(error)], code=Exit.NOT_SIGNED_IN)
    raise refusal


def _show(said: dict[str, Any], *, browser: bool) -> None:
    address = said["verification_uri"]
    print(f"Open  {address}\nType  {said['user_code']}", flush=True)
    if browser:
        import webbrowser  # noqa: PLC0415

        webbrowser.open(address)
