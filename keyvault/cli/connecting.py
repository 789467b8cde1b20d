"""Who a command acts as, and what becomes of the server's refusals: a sentence and an exit code.

A program acts as what its environment says (an agent, a job, a token); a
person as whoever has signed in by `keyvault login`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyvault.cli import home
from keyvault.cli.codes import Exit
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from keyvault.client import Client

_LOGIN = "Sign in: keyvault login"


@dataclass(frozen=True, slots=True)
class Caller:
    """A client, and the name of the person whose token it carries: empty for a program."""

    client: Client
    person: str = ""


@contextmanager
def connected() -> Iterator[Caller]:
    """Connect as whom the environment names, else as whoever has signed in. Raises Stop."""
    # Loaded here, so that a command that is only asked for its help stays quick.
    from keyvault.client.settings import from_environment  # noqa: PLC0415

    with said():
        who = home.load()
        url = os.environ.get("KEYVAULT_URL") or (who.url if who else None)
        found = from_environment(url=url)
        person = ""
        if found.identity is None and found.token is None:
            token = _own_token(who, found.url)
            found, person = from_environment(url=url, token=token.token), token.person
        # Loaded only now: with it come sockets, TLS and the parser of mail headers.
        from keyvault.client import Client  # noqa: PLC0415

        with Client(settings=found) as client:
            yield Caller(client, person)


@contextmanager
def said(*, code: Exit | None = None) -> Iterator[None]:
    """Turn what the client raises into Stop, with one code for all or one for each kind."""
    from keyvault.client import (  # noqa: PLC0415
        Away,
        BadIdentity,
        BadSettings,
        Refused,
    )

    try:
        yield
    except Away as away:
        wait = f" Try again in {away.retry_after_s:.0f} s." if away.retry_after_s else ""
        raise Stop(f"{away}{wait}", code=code or Exit.AWAY) from None
    except BadIdentity as error:
        raise Stop(str(error), code=code or Exit.NOT_SIGNED_IN) from None
    except BadSettings as error:
        raise Stop(str(error), code=code or Exit.USAGE) from None
    except Refused as error:
        raise Stop(f"{error}{next_step(error.next_action)}", code=code or Exit.REFUSED) from None


def next_step(action: object) -> str:
    """Return the command that does what a refusal proposes, or nothing where there is none."""
    body = action.get("body") if isinstance(action, dict) else None
    if not isinstance(body, dict) or "kind" not in body:
        return ""
    words = [f"--{name} {text}" for name in ("key", "agent", "days") if (text := body.get(name))]
    return f" Ask for it: keyvault request create {body['kind']} {' '.join(words)} --reason WHY"


def _own_token(who: home.SignedIn | None, url: str) -> home.SignedIn:
    """Return the token of whoever is signed in at this address. Raises Stop."""
    if who is None:
        raise Stop(f"Nobody is signed in here. {_LOGIN}", code=Exit.NOT_SIGNED_IN)
    if who.url != url:
        raise Stop(
            f"You are signed in at {who.url}, not at {url}. {_LOGIN}", code=Exit.NOT_SIGNED_IN
        )
    if who.expires_at <= time.time():
        raise Stop(f"Your token is over; one lasts 8 hours. {_LOGIN}", code=Exit.NOT_SIGNED_IN)
    return who
