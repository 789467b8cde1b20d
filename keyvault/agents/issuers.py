"""The public keys of trusted issuers: fetched through the guard, kept through rollover and outage.

Kept in memory by each process. A key that is not known is looked for at most
once a minute, so that made-up key ids cannot make us hammer an issuer. While
an issuer is away its last good set serves for a day: jobs go on, and a key
that the issuer has withdrawn is not believed for longer than that.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from threading import Lock
from typing import Any

from django.db import transaction

from keyvault.agents import trusts
from keyvault.agents.models import Trust
from keyvault.agents.proofs import Refused
from keyvault.agents.terms import Terms
from keyvault.crypto import jwt
from keyvault.outbound import Guard, Unreachable, fetch
from keyvault.outbound import Refused as Forbidden

log = logging.getLogger(__name__)

FRESH = timedelta(minutes=15)
RETRY = timedelta(minutes=1)
KEEP = timedelta(hours=24)
MOST_KEYS = 100
MOST_ISSUERS = 200
DISCOVERY = "/.well-known/openid-configuration"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Unusable(Exception):
    """An issuer's answer is not what it should be. The message is a phrase of ours."""


@dataclass(slots=True)
class _Set:
    """The keys of one trust at one revision, and when they were got and last asked for."""

    keys: Mapping[str, jwt.PublicKey] = field(default_factory=dict)
    got_at: datetime = _LONG_AGO
    asked_at: datetime = _LONG_AGO
    lock: Lock = field(default_factory=Lock)

    def is_due(self, kid: str, *, now: datetime) -> bool:
        """Say whether to ask the issuer: a key is missing or the set is old, and not just asked."""
        is_wanting = kid not in self.keys or now - self.got_at >= FRESH
        return is_wanting and abs(now - self.asked_at) >= RETRY

    def serves(self, kid: str, *, now: datetime) -> bool:
        """Say whether this key may still be believed."""
        return kid in self.keys and now - self.got_at < KEEP


class KeySets:
    """What this process knows of the issuers' keys."""

    def __init__(self) -> None:
        self._sets: dict[tuple[object, int], _Set] = {}
        self._lock = Lock()

    def key(self, trust: Trust, kid: str, *, now: datetime) -> jwt.PublicKey:
        """Return the key that an issuer calls `kid`. Raises proofs.Refused.

        May take seconds, so it must not run inside a transaction: RuntimeError.
        """
        known = self._of(trust)
        if known.is_due(kid, now=now):
            _require_no_transaction()
            self._refresh(known, trust, kid, now=now)
        if known.serves(kid, now=now):
            return known.keys[kid]
        raise Refused("issuer: out of reach" if not known.keys else "issuer: unknown key")

    def _of(self, trust: Trust) -> _Set:
        """Return the set of a trust; new terms begin with an empty one."""
        place = (trust.pk, trust.revision)
        with self._lock:
            if place not in self._sets and len(self._sets) >= MOST_ISSUERS:
                del self._sets[next(iter(self._sets))]
            return self._sets.setdefault(place, _Set())

    def _refresh(self, known: _Set, trust: Trust, kid: str, *, now: datetime) -> None:
        """Ask once however many wait; who has a key that still serves does not wait at all."""
        if not known.lock.acquire(blocking=not known.serves(kid, now=now)):
            return
        try:
            if known.is_due(kid, now=now):
                self._ask(known, trust, now=now)
        finally:
            known.lock.release()

    def _ask(self, known: _Set, trust: Trust, *, now: datetime) -> None:
        """Fetch the keys of a locked set; whoever comes meanwhile waits until it was asked."""
        try:
            known.keys = read(trusts.terms(trust))
            known.got_at = now
        except (Forbidden, Unreachable, Unusable, ValueError) as error:
            log.warning("the keys of %s could not be fetched: %s", trust.slug, error)
        finally:
            known.asked_at = now


def read(terms: Terms) -> Mapping[str, jwt.PublicKey]:
    """Fetch an issuer's keys by their ids; keys of other kinds are left out.

    Raises outbound.Refused, outbound.Unreachable, Unusable.
    """
    guard = terms.guard()
    listed = _get(guard, terms.jwks_url or _discovered(guard, terms.issuer)).get("keys")
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise Unusable(f"its key set is not a list of at most {MOST_KEYS} keys")
    found: dict[str, jwt.PublicKey] = {}
    for entry in listed:
        try:
            key = jwt.PublicKey.of(entry)
        except jwt.BadJwk:
            continue
        if key.kid in found:
            raise Unusable("two keys have one id")
        if key.kid:
            found[key.kid] = key
    if not found:
        raise Unusable("it names no key that we could use")
    return found


def _discovered(guard: Guard, issuer: str) -> str:
    """Return where the keys are (OpenID Connect Discovery 1.0 section 4). Raises Unusable."""
    document = _get(guard, issuer.rstrip("/") + DISCOVERY)
    address = document.get("jwks_uri")
    if document.get("issuer") != issuer or not isinstance(address, str):
        raise Unusable("its discovery document is that of another issuer, or names no keys")
    return address


def _get(guard: Guard, url: str) -> dict[str, Any]:
    answer = fetch(guard, "GET", url, headers={"accept": "application/json"})
    if answer.status != HTTPStatus.OK:
        raise Unusable(f"it answered with status {answer.status}")
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise Unusable("its answer is not JSON") from None
    if not isinstance(found, dict):
        raise Unusable("its answer is not a JSON object")
    return found


def _require_no_transaction() -> None:
    """Raise RuntimeError inside a transaction: a slow issuer would hold its locks."""
    with transaction.atomic(durable=True):
        pass


key_sets = KeySets()
