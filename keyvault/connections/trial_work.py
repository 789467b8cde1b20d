"""What the steps of a test run share: the provider, what was made, and how it is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from django.db import transaction

from approvals.ports import Run
from keyvault.connections import context, trials
from keyvault.connections.calls import spoken
from keyvault.connections.context import Reach
from keyvault.connections.models import Trial
from keyvault.connections.trials import Step
from keyvault.crypto.secret import Secret
from keyvault.providers import base
from keyvault.providers.base import Issued, Mints, Provider, Recovery, RemoteKey, Validation
from keyvault.vault import selectors as versions

_T = TypeVar("_T")
# A new credential, or the end of one, may take a moment to be known everywhere at the provider.
PATIENCE_S = 10.0
PAUSE_S = 0.5
_SHORTEST_S = 60


@dataclass
class Work:
    """One test run within reach of its provider. What was made is here and nowhere else."""

    trial: Trial
    run: Run
    reach: Reach[Provider]
    step: Step = Step.CHECK
    planned: base.Attempt | None = field(default=None, repr=False)
    issued: Issued | None = field(default=None, repr=False)
    began: float = field(default_factory=time.monotonic)

    @property
    def provider(self) -> Provider:
        """The plug-in."""
        return self.reach.plugin

    @property
    def now(self) -> datetime:
        """The time of this try, with what has passed since."""
        return self.run.now + timedelta(seconds=time.monotonic() - self.began)

    @property
    def in_hand(self) -> Issued:
        """What was made in this try. Raises LookupError before that."""
        if self.issued is None:
            raise LookupError("Nothing was made in this try.")
        return self.issued

    def can(self) -> base.Capabilities:
        """Return what the provider can do here."""
        with spoken():
            return self.provider.capabilities(self.call())

    def is_findable(self) -> bool:
        """Say whether the provider can name what an attempt has made."""
        return self.can().recovery is not Recovery.NONE

    def call(self) -> base.Context:
        """Return the context of one call with the options of the test run."""
        return self.reach.call(self.trial.options)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Open a transaction that commits only while this try holds the job. Raises LostClaim."""
        with transaction.atomic(durable=True):
            self.run.fence()
            yield

    def note(self, step: Step, sentence: str = "", *, outcome: str = "ok") -> None:
        """Write a step down. Raises LostClaim, trials.WrongMoment."""
        with self.writing():
            trials.stepped(self.trial, step, outcome=outcome, sentence=sentence, now=self.now)

    def make(self, planned: base.Attempt) -> Issued:
        """Make the credential; where each is for one run, the shortest. Raises ProviderError."""
        if isinstance(self.provider, Mints):
            ttl_s = min(self.provider.longest_s(self.call()), _SHORTEST_S)
            return self.provider.mint(self.call(), planned.tag, (), ttl_s)
        return self.provider.create(self.call(), planned)

    def validate(self) -> Validation:
        """Use what was made once."""
        return self.provider.validate(self.call(), self.in_hand)

    def end(self) -> None:
        """End what was made in this try, with its sessions. Raises ProviderError."""
        if isinstance(self.provider, Mints):
            self.provider.end(self.call(), self.in_hand)
            return
        self.end_listed(self.in_hand.key())

    def end_listed(self, key: RemoteKey) -> None:
        """End a credential by its identity; an absent one counts as ended. Raises ProviderError."""
        with suppress(base.NotFound):
            self.provider.revoke(self.call(), key, kill_sessions=True)

    def find(self) -> list[RemoteKey]:
        """Return what the newest attempt has left at the provider. Raises ProviderError.

        Where it is told from the rest by its age alone, a key that came meanwhile is left out.
        """
        attempt = base.Attempt.from_json(self.trial.plan, {})
        in_use = {row.remote_id for row in versions.in_use_through(self.trial.connection_id)}
        found = self.provider.find(self.call(), attempt)
        return [key for key in found if key.remote_id not in in_use]

    def wait_for(self, ask: Callable[[], _T], is_good: Callable[[_T], bool], lag_s: float) -> _T:
        """Ask until the answer is good or time is up, and return the last one.

        The job is kept meanwhile. Raises Unfinished, NeedsPerson, LostClaim.
        """
        until = time.monotonic() + PATIENCE_S + lag_s
        while True:
            with spoken():
                seen = ask()
            if is_good(seen) or time.monotonic() >= until:
                return seen
            self.run.fence()
            time.sleep(PAUSE_S)

    def forget(self) -> None:
        """Zero every value of this try."""
        materials: list[Mapping[str, Secret]] = [
            one.material for one in (self.planned, self.issued) if one is not None
        ]
        self.planned = self.issued = None
        for material in materials:
            context.zero(material)
