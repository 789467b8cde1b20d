"""Receipts: the server's signature over what one person decided, checkable offline.

The signed bytes are the canonical JSON of `receipt`. `keyvault verify` checks
them with nothing but this file and a pinned public key.
"""

from __future__ import annotations

import base64
import hmac
from typing import Any

from approvals import canonical, digests, ports
from approvals.models import Decision, Request

JSON = Any

FORMAT = "keyvault-receipt/1"
ATTESTED = "server-attested"


def word(
    request: Request, decision: Decision, *, proof: ports.Proof, state: str
) -> dict[str, JSON]:
    """Return the canonical decision that the server signs.

    A TOTP code proves nothing to a third party, so such a receipt says that
    the server attests it; a passkey will carry the person's own signature.
    """
    return {
        "format": FORMAT,
        "decision": str(decision.pk),
        "request": {
            "id": str(request.pk),
            "number": request.label,
            "kind": request.kind,
            "revision": request.revision,
            "title": request.plan["title"],
        },
        "plan_digest": request.plan_digest,
        "verdict": decision.verdict,
        "comment_digest": digests.sha256(decision.comment),
        "seen_digest": decision.seen_digest,
        "person": {"id": str(decision.person_id), "label": decision.person_label},
        "requester": {"id": str(request.requester_id), "label": request.requester_label},
        "policy": {
            "name": request.policy_version.body["name"],
            "version": request.policy_version.number,
        },
        "solo": decision.solo,
        "factor": {
            "method": proof.method,
            "age_s": decision.age_s,
            "proof": str(proof.id),
            "assurance": ATTESTED,
        },
        "decided_at": decision.decided_at.isoformat(),
        "state_after": state,
        "key_id": ports.signer().key_id,
    }


def sign(receipt: JSON) -> bytes:
    """Return the signature over a receipt. Raises NotBound while the server is sealed."""
    return ports.signer().sign(canonical.dumps(receipt))


def public_key() -> str:
    """Return the key that receipts verify against, in hex, or nothing while the server is sealed."""
    try:
        return ports.signer().public.hex()
    except ports.NotBound:
        return ""


def is_genuine(decision: Decision) -> bool:
    """Say whether this server signed exactly what the row says.

    Ed25519 is deterministic (RFC 8032 section 5.1.6), so signing again is a
    check. A row that was written or altered behind the services fails it.
    """
    receipt = decision.receipt
    agrees = (
        receipt.get("decision") == str(decision.pk)
        and receipt.get("plan_digest") == decision.plan_digest
        and receipt.get("verdict") == decision.verdict
        and receipt.get("person", {}).get("id") == str(decision.person_id)
        and receipt.get("request", {}).get("id") == str(decision.request_id)
        and receipt.get("request", {}).get("revision") == decision.revision
    )
    return agrees and hmac.compare_digest(sign(receipt), bytes(decision.signature))


def document(decision: Decision, *, material: JSON) -> dict[str, JSON]:
    """Return the file that a person downloads: receipt, signature and the plan it binds.

    `public_key` only says which key to look for; a verifier pins its own copy.
    """
    return {
        "receipt": decision.receipt,
        "signature": base64.b64encode(bytes(decision.signature)).decode(),
        "comment": decision.comment,
        "seen": decision.seen,
        "plan": material,
        "public_key": ports.signer().public.hex(),
    }
