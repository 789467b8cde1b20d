"""Digests that tie a person's factor and signature to one exact act."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

from approvals import canonical

JSON = Any

PLAN_FORMAT = "approvals-plan/1"


def act_digest(**fields: JSON) -> str:
    """Return the hex SHA-256 over an act's named parameters; UUIDs count as their text.

    Raises canonical.NotCanonical on a value that JSON cannot hold exactly.
    """
    plain = {
        name: str(value) if isinstance(value, UUID) else value for name, value in fields.items()
    }
    return sha256(plain)


def plan_material(
    *,
    kind: str,
    payload: JSON,
    plan: JSON,
    requester_id: UUID,
    policy_id: UUID,
    policy_version: int,
    nonce: str,
    reason: str,
    ticket: str,
    asked_by: JSON = None,
) -> dict[str, JSON]:
    """Return everything an approval is bound to, as one JSON object (OWASP AISVS 9.2.8).

    asked_by: the machine that asked for the requester. Left out where there is
    none, so that what a person asked has the digest that it always had.
    """
    asked = {"asked_by": asked_by} if asked_by else {}
    return asked | {
        "format": PLAN_FORMAT,
        "kind": kind,
        "payload": payload,
        "plan": plan,
        "requester": str(requester_id),
        "policy": str(policy_id),
        "policy_version": policy_version,
        "nonce": nonce,
        "reason": reason,
        "ticket": ticket,
    }


def plan_digest(material: JSON) -> str:
    """Return the hex SHA-256 that approvers sign, over `plan_material`."""
    return sha256(material)


def decide_digest(*, request_id: UUID, plan_digest: str, verdict: str) -> str:
    """Return the digest that a decider's fresh factor must be bound to."""
    return act_digest(
        kind="decide", request_id=request_id, plan_digest=plan_digest, verdict=verdict
    )


def sha256(obj: JSON) -> str:
    """Return the hex SHA-256 of an object's canonical bytes."""
    return hashlib.sha256(canonical.dumps(obj)).hexdigest()
