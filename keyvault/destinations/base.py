"""The protocol between keyvault and wherever a version of a key is pushed.

A destination plug-in is a plain class: no framework, no database, no clock, no
retries. It reaches the outside only through the `Context` of one call. Rules
that the conformance suite (`keyvault.destinations.testing`) proves:

* `observe` and `verify` read and never wait; every change may be repeated, and
  repeating a promotion that holds changes nothing where the place can be read;
* `promote` compares first: what is live and is neither `expect` nor the
  version itself is somebody else's, stays as it is, and is a `Conflict`;
* our mark alone proves nothing: a value that was edited under it is foreign;
* a failure after which the change may hold is `Ambiguous`, never `Transient`;
* an outage is no verdict: `observe` raises `Transient`, `verify` says PENDING;
* no secret stands in any error, name or public field;
* each call returns or raises before `ctx.deadline_at`.

Where the place cannot be read (`readback` is false), `observe` tells what the
marks beside the value say, and an edit that leaves them alone goes unseen.

To roll back is to `promote` the previous version: there is no second way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from keyvault.destinations.values import (
    DestinationCapabilities,
    Health,
    Observed,
    Restart,
    State,
    Version,
)
from keyvault.plugins.errors import (
    Ambiguous,
    Conflict,
    Denied,
    Misconfigured,
    NotFound,
    ProviderError,
    Transient,
    Unsupported,
)
from keyvault.plugins.ports import Context
from keyvault.plugins.values import JSON, Field, Problem, Reply

__all__ = [
    "JSON",
    "Ambiguous",
    "Conflict",
    "Context",
    "Denied",
    "Destination",
    "DestinationCapabilities",
    "Field",
    "Health",
    "Misconfigured",
    "NotFound",
    "Observed",
    "Problem",
    "ProviderError",
    "Reply",
    "Restart",
    "State",
    "Transient",
    "Unsupported",
    "Version",
]


class Destination(Protocol):
    """Where versions are pushed. One instance serves all calls and keeps no state.

    `config_schema` and `material_schema` describe the account and its
    credential (`ctx.config`, `ctx.admin`), `target_schema` the one place in it
    (`ctx.options`).
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    config_schema: ClassVar[Sequence[Field]]
    material_schema: ClassVar[Sequence[Field]]
    target_schema: ClassVar[Sequence[Field]]

    def capabilities(self, ctx: Context) -> DestinationCapabilities:
        """Return what this destination can do here, without a call to it."""

    def check(self, ctx: Context) -> list[Problem]:
        """Return what stands in the way, by reading only. An empty list means ready.

        Without options it is about the account alone, and says nothing of any place.
        """

    def observe(self, ctx: Context) -> Observed:
        """Return what the place holds now, by reading only.

        Raises Transient while it cannot be asked, Denied without the right to read.
        """

    def stage(self, ctx: Context, version: Version) -> None:
        """Lay a version beside the live one, where no consumer reads it.

        Does nothing where `capabilities().stages` is false. Raises Denied when the
        right to write is missing, so that it shows before anything has moved.
        """

    def promote(self, ctx: Context, version: Version, expect: str | None) -> Observed:
        """Make a version live if `expect` (a version id; None: nothing of ours) is live now.

        Idempotent by `version.id`. Returns what is live afterwards. Raises
        Conflict when something else is live; a foreign value is never replaced.
        """

    def verify(self, ctx: Context, version: Version) -> Health:
        """Say whether the place shows the version and its consumer has it; never waits.

        OK: both. PENDING: not yet, or the place cannot be asked now. BAD: a foreign
        value is there, or the consumer failed with it; time alone mends neither.
        Raises nothing but Denied and Misconfigured.
        """

    def cleanup(self, ctx: Context, keep: Sequence[str]) -> None:
        """Remove what was staged, except the versions in `keep`; the live one stays.

        `keep` holds version ids. What is not ours stays too.
        """

    def remove(self, ctx: Context, expect: str) -> None:
        """Remove our value when the key ends here; an absent one counts as removed.

        Raises Conflict when the live value is not the version `expect`.
        """
