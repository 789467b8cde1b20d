"""One piece of work at a provider, and what its failures mean for the job that does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals.ports import Actor, NeedsPerson, Run, Unfinished
from keyvault.connections.context import Reach
from keyvault.crypto.keyring import NoKey
from keyvault.inventory.models import Key
from keyvault.plugins.loading import UnknownKind
from keyvault.providers import base
from keyvault.providers.base import Context
from keyvault.vault.sealing import Unreadable
from keyvault.vault.steps import WrongState

_PERSON = (
    base.Denied,
    base.Misconfigured,
    base.NotFound,
    base.Conflict,
    base.Unsupported,
)


@dataclass(frozen=True, slots=True)
class Errand:
    """What every step for one key shares, whether or not it calls the provider."""

    key: Key
    request_id: UUID
    run: Run
    actor: Actor

    @property
    def now(self) -> datetime:
        """The time of this try."""
        return self.run.now

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Open a transaction that commits only while this try holds the job.

        Raises LostClaim before anything is written.
        """
        with transaction.atomic(durable=True):
            self.run.fence()
            yield


@dataclass(frozen=True, slots=True)
class Work(Errand):
    """Everything that the calling steps of one issue or revocation share."""

    reach: Reach[base.Provider]

    @property
    def provider(self) -> base.Provider:
        """The plug-in."""
        return self.reach.plugin

    def call(self) -> Context:
        """Return the context of one call with the key's options."""
        return self.reach.call(self.key.options)


def stop_for(error: base.ProviderError) -> Unfinished:
    """Return what a job raises for a failed call: try later, or wait for a person."""
    if isinstance(error, _PERSON):
        return NeedsPerson(error.code, error.sentence)
    return Unfinished(error.code, error.sentence)


@contextmanager
def told() -> Iterator[None]:
    """Turn what the vault and the registry refuse into a typed stop, so that the page says why."""
    try:
        yield
    except NoKey as error:
        raise Unfinished("sealed", str(error)) from None
    except Unreadable as error:
        raise NeedsPerson("unreadable", str(error)) from None
    except UnknownKind as error:
        raise NeedsPerson("no_plugin", f"{error} Allow it in the settings.") from None
    except WrongState as error:
        raise Unfinished("wrong_state", str(error)) from None


@contextmanager
def spoken() -> Iterator[None]:
    """Turn every failure of a provider into a typed stop.

    A plug-in that fails in a way the protocol does not know may have changed
    something, and its message may hold anything: only the type is repeated.
    """
    try:
        yield
    except base.ProviderError as error:
        raise stop_for(error) from None
    except Exception as error:  # noqa: BLE001 - see above.
        raise Unfinished("fault", f"The provider failed ({type(error).__name__}).") from None
