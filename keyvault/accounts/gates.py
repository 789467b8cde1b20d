"""Name and enforce who may call a view. Every view has exactly one gate.

A gate leaves `view.gate`, which the middleware reads and a test lists: a view
without one is closed to everybody. The middleware demands the second factor
before any view runs, for every method alike; the gate adds the role.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from django.http import HttpRequest, HttpResponseBase

from keyvault.accounts import selectors, sessions

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]

PUBLIC, VISITOR, HALF = "public", "visitor", "half signed in"
SETUP, SIGNED_IN = "set-up", "signed in"
MACHINE = "machine"
ROLE_PREFIX = "role: "
MARK = "gate"


class MissingRight(Exception):
    """A signed-in person lacks the role that a page takes. Says which, and who grants it."""

    def __init__(self, roles: tuple[str, ...]) -> None:
        titles = " or ".join(roles)
        super().__init__(f"This page takes the role {titles}. An administrator can ask for it.")
        self.roles = roles


def public(view: View[P]) -> View[P]:
    """Open a view to anybody at any time, without a look at session or database."""
    return _marked(view, PUBLIC)


def visitor(view: View[P]) -> View[P]:
    """Open a view to anybody once the installation is set up: the ways in."""
    return _marked(view, VISITOR)


def half_signed_in(view: View[P]) -> View[P]:
    """Open a view to a person whose password was right, before the second factor."""
    return _marked(view, HALF)


def setup_only(view: View[P]) -> View[P]:
    """Open a view to anybody while the installation is not set up, and never after."""
    return _marked(view, SETUP)


def machine(view: View[P]) -> View[P]:
    """Open a view to programs, which prove themselves in the request by a token or a signature.

    The view checks that proof itself. A session counts for nothing there, so
    that no browser can be made to act through it.
    """
    return _marked(view, MACHINE)


def signed_in(view: View[P]) -> View[P]:
    """Open a view to whoever has passed the second factor."""
    return _marked(view, SIGNED_IN)


def role_required(*roles: str) -> Callable[[View[P]], View[P]]:
    """Open a view to holders of at least one of the roles now. Raises MissingRight."""

    def gate(view: View[P]) -> View[P]:
        def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not selectors.has_role(sessions.person(request), *roles):
                raise MissingRight(roles)
            return view(request, *args, **kwargs)

        functools.update_wrapper(guarded, view)
        return _marked(guarded, ROLE_PREFIX + ", ".join(roles))

    return gate


def of(view: object) -> str | None:
    """Return the name of a view's gate, or None for a view that nobody may call."""
    gate = getattr(view, MARK, None)
    return gate if isinstance(gate, str) else None


def _marked(view: View[P], name: str) -> View[P]:
    """Mark a view and return it. A second gate on one view is a mistake: TypeError."""
    if of(view) is not None:
        message = f"{view!r} already has the gate {of(view)!r}"
        raise TypeError(message)
    setattr(view, MARK, name)
    return view
