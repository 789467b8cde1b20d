"""The protocol between keyvault and whoever issues credentials.

A provider plug-in is a plain class: no framework, no database, no clock, no
retries. It reaches the outside only through the `Context` of one call. Rules
that the conformance suite (`keyvault.providers.testing`) proves:

* reads are pure, and every change is safe to repeat after it succeeded;
* a failure after which the change may hold is `Ambiguous`, never `Transient`;
* no secret stands in any error, name or public field;
* each call returns or raises before `ctx.deadline_at`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

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
from keyvault.plugins.ports import Context, Http
from keyvault.plugins.values import JSON, Field, Problem, Reply
from keyvault.providers.values import (
    Attempt,
    Capabilities,
    Issued,
    LastUse,
    Page,
    Recovery,
    RemoteKey,
    Shape,
    Validation,
    Verdict,
    tag_of,
)

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret

__all__ = [
    "JSON",
    "Adopts",
    "Ambiguous",
    "Attempt",
    "Capabilities",
    "Conflict",
    "Context",
    "Denied",
    "Field",
    "Foresees",
    "HoldsOne",
    "Http",
    "Instructs",
    "Issued",
    "LastUse",
    "Mints",
    "Misconfigured",
    "NotFound",
    "Page",
    "Problem",
    "Proposes",
    "Provider",
    "ProviderError",
    "Recovery",
    "RemoteKey",
    "RenewsAdmin",
    "Reply",
    "ReportsUse",
    "Shape",
    "Suspends",
    "Transient",
    "Unsupported",
    "Validation",
    "Verdict",
    "Verified",
    "tag_of",
]


class Provider(Protocol):
    """Who issues a credential. One instance serves all calls and keeps no state."""

    kind: ClassVar[str]
    title: ClassVar[str]
    config_schema: ClassVar[Sequence[Field]]
    material_schema: ClassVar[Sequence[Field]]
    options_schema: ClassVar[Sequence[Field]]

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return what this provider can do here, without a call to it."""

    def check(self, ctx: Context) -> list[Problem]:
        """Return what stands in the way, by reading only. An empty list means ready."""

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Plan one create, by reading only. Raises Conflict on a quota or a busy slot."""

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Create the credential of `attempt`: at most one change.

        With CLIENT or NAMED recovery an equal attempt gives an equal result.
        """

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the enabled credentials that `attempt` made; nothing when it made none."""

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """Use the credential once, with no side effect and at no cost. Never raises for outages."""

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """End the credential; an absent one counts as ended. Touches no other id."""

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return a page of the credentials that exist at the provider."""


@runtime_checkable
class Suspends(Protocol):
    """A provider that can switch a credential off and on again."""

    def suspend(self, ctx: Context, key: RemoteKey) -> None:
        """Refuse new uses of the credential until `resume`. Raises NotFound."""

    def resume(self, ctx: Context, key: RemoteKey) -> None:
        """Undo `suspend`. Raises NotFound when the credential has ended meanwhile."""


@runtime_checkable
class ReportsUse(Protocol):
    """A provider that knows when a credential was used."""

    def last_use(self, ctx: Context, key: RemoteKey) -> LastUse:
        """Return the provider's last sight of the credential in use."""


@runtime_checkable
class Adopts(Protocol):
    """A provider that can take over a credential which a person brings."""

    def adopt(self, ctx: Context, attempt: Attempt, material: Mapping[str, Secret]) -> Issued:
        """Return the credential under our care, unchanged. Raises Misconfigured on bad material."""


@runtime_checkable
class Instructs(Protocol):
    """A provider whose changes a person makes by hand."""

    def instructions(self, ctx: Context, act: str) -> Sequence[str]:
        """Return the steps of `act` ("create" or "revoke") as sentences, in order."""


@runtime_checkable
class Foresees(Protocol):
    """A provider that knows beforehand which accounts a key will have there."""

    def foresee(self, ctx: Context) -> Sequence[str]:
        """Return the names of those accounts, without a call.

        Raises Misconfigured on settings of the key that cannot work.
        """


@runtime_checkable
class Proposes(Protocol):
    """A provider that can fill in settings of a key which nobody typed."""

    def propose(self, config: Mapping[str, JSON], name: str) -> Mapping[str, str]:
        """Return settings, by the names of `options_schema`, for a key of this name.

        config: the Connection's settings. A setting without a sensible value is left
        out; `name` is empty while nobody has named the key.
        """


@runtime_checkable
class HoldsOne(Protocol):
    """A provider whose credentials have one secret part, and which says how it is called.

    An existing credential that people bring is kept under this name, so that whoever uses
    the key finds the value of its later versions in the same place. `takes_listed`: a
    credential that `inventory` lists can be tried and ended with its identity and this
    part alone, without anything that only `create` returns.
    """

    value_field: ClassVar[str]
    takes_listed: ClassVar[bool]


@runtime_checkable
class Verified(Protocol):
    """A provider that says what its tests ran against.

    `verified_by` is "fake" where they never met the vendor's own server, however
    faithful the fake; the page of each Connection then says so.
    """

    verified_by: ClassVar[str]


@runtime_checkable
class Mints(Protocol):
    """A provider of short-lived credentials (EPHEMERAL).

    life_s: the seconds after which each of them has ended by itself, whatever was asked;
    so long one whose answer was lost may work.
    """

    life_s: ClassVar[int]

    def longest_s(self, ctx: Context) -> int:
        """Return how long a run may hold one by the key's settings, without a call.

        In seconds, at most `life_s`. Raises Misconfigured.
        """

    def mint(self, ctx: Context, subject: str, scopes: Sequence[str], ttl_s: int) -> Issued:
        """Return a credential for one run that ends by itself.

        ttl_s: the seconds that it must live; where the vendor knows only a longer
        life, `Issued.expires_at` says so and the caller ends it by `end`.
        """

    def end(self, ctx: Context, issued: Issued) -> None:
        """End such a credential early, with itself in hand; one that has ended counts as ended."""


@runtime_checkable
class RenewsAdmin(Protocol):
    """A provider that can renew the admin credential by which it works itself.

    Each call works with `ctx.admin`, which is the credential in use, the new one or the
    old one, as its caller says. The caller seals `Attempt.material` before `create_admin`
    is called, and keeps every other work away from the Connection meanwhile. The account
    stays the same, and with it every right.
    """

    def admin_capabilities(self, ctx: Context) -> Capabilities:
        """Return the shape and recovery class of the admin's own credential, without a call.

        MULTI: both work until `revoke_admin`. REPLACE: the new one ends the old one.
        """

    def prepare_admin(self, ctx: Context, op_id: str, number: int) -> Attempt:
        """Plan one renewal, by reading only. Raises Misconfigured, Conflict on a quota.

        With CLIENT recovery `Attempt.material` is the whole new admin credential, by the
        names of `material_schema`.
        """

    def create_admin(self, ctx: Context, attempt: Attempt) -> Mapping[str, Secret]:
        """Make the new admin credential valid and return it, by the names of `material_schema`.

        With CLIENT recovery an equal attempt gives an equal result. A failure that is not
        Ambiguous leaves the old credential, and it alone, valid.
        """

    def withdraw_admin(self, ctx: Context, attempt: Attempt) -> None:
        """End whatever `attempt` made and nobody received (TAGGED, DIFF). Touches no other."""

    def validate_admin(self, ctx: Context) -> Validation:
        """Use `ctx.admin` once, with no side effect. Never raises for outages.

        `principal` names the account; INVALID is the provider's own refusal alone.
        """

    def revoke_admin(self, ctx: Context, old: Mapping[str, Secret]) -> None:
        """End `old` and, where that is possible, its open sessions; `ctx.admin` goes on working.

        One that has ended counts as ended.
        """
