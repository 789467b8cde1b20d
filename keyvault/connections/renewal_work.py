"""What the steps of a renewal share: the provider, the two values, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from django.db import transaction

from approvals.ports import Run, Unfinished
from keyvault.connections import context, renewals
from keyvault.connections.calls import spoken
from keyvault.connections.context import Reach
from keyvault.connections.models import Connection, Renewal
from keyvault.crypto.secret import Secret
from keyvault.providers import base
from keyvault.providers.base import Provider, Recovery, RenewsAdmin, Validation, Verdict

_REPLAYED = (Recovery.CLIENT, Recovery.NAMED)


@dataclass
class Work:
    """One renewal within reach of its provider, with the values that were opened for it."""

    renewal: Renewal
    run: Run
    plugin: Provider
    renews: RenewsAdmin
    opened: dict[int, Mapping[str, Secret]] = field(default_factory=dict, repr=False)

    @property
    def connection(self) -> Connection:
        """The Connection whose credential is renewed."""
        return self.renewal.connection

    @property
    def new(self) -> int:
        """The number of the credential that comes."""
        return self.renewal.number

    @property
    def old(self) -> int:
        """The number of the credential that goes."""
        return self.renewal.number - 1

    @property
    def is_replayed(self) -> bool:
        """Say whether an equal attempt makes an equal credential."""
        return self.can().recovery in _REPLAYED

    def can(self) -> base.Capabilities:
        """Return what the provider can do with its own credential."""
        return self.renews.admin_capabilities(self.call_with({}))

    def value(self, number: int) -> Mapping[str, Secret]:
        """Return the credential of a number, opened once; empty where none lies."""
        if number not in self.opened:
            self.opened[number] = context.open_number(
                self.connection,
                number,
                actor=renewals.CLOCK,
                now=self.run.now,
                purpose="renew",
            )
        return self.opened[number]

    def call(self, number: int) -> base.Context:
        """Return the context of one call with the credential of a number."""
        return self.call_with(self.value(number))

    def call_with(self, material: Mapping[str, Secret]) -> base.Context:
        """Return the context of one call with a credential."""
        return Reach(self.connection, self.plugin, "", material).call()

    def tried(self, number: int) -> Validation:
        """Ask the provider with the credential of a number; what nobody has does not work."""
        material = self.value(number)
        return self.asked(material) if material else Validation(Verdict.INVALID)

    def asked(self, material: Mapping[str, Secret]) -> Validation:
        """Ask the provider with a credential. Raises Unfinished where it breaks the protocol."""
        with spoken():
            return self.renews.validate_admin(self.call_with(material))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Open a transaction that commits only while this try holds the job. Raises LostClaim."""
        with transaction.atomic(durable=True):
            self.run.fence()
            yield


def require_ready(work: Work, number: int) -> None:
    """Raise Unfinished where the provider's own check finds something in the way."""
    call = work.call(number)
    with spoken():
        found = [one for one in work.plugin.check(call) if one.is_fatal]
    if found:
        raise Unfinished("not_ready", f"{found[0].sentence} {found[0].mend}")


def require_valid(work: Work, number: int) -> Validation:
    """Return whose the credential of a number is. Raises Unfinished unless it works."""
    found = work.tried(number)
    if found.verdict is Verdict.UNKNOWN:
        raise unclear()
    if found.verdict is Verdict.INVALID:
        raise Unfinished("invalid", f"The admin credential does not work. {found.detail}")
    return found


def require_refused(found: Validation) -> None:
    """Raise Unfinished unless the provider refuses a credential that should not work."""
    if found.verdict is Verdict.UNKNOWN:
        raise unclear()
    if found.verdict is Verdict.VALID:
        raise Unfinished(
            "still_valid", "The provider takes an admin credential that it should refuse."
        )


def unclear() -> Unfinished:
    """Return what is raised where the provider gives no verdict: nothing follows from it."""
    return Unfinished("unclear", "The provider does not say which admin credential it takes.")
