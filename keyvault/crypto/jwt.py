"""Signed tokens of others: read strictly, verified with a public key whose algorithm is fixed.

Each key serves exactly one algorithm, so that the token's header chooses
nothing (RFC 8725 section 3.1): a token that says HS256 or none meets no key.
Keys named inside a token are never used, and JSON that two parsers may read
differently is refused. RFC 7515, 7517, 7519, 8037, 9864.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from joserfc import errors, jwk, jws

LONGEST_TOKEN = 16_384
RSA_LEAST_BITS, RSA_MOST_BITS = 2048, 8192
LEEWAY_S = 30
_YEAR_10000 = 253_402_300_800

_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_POINTERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64"})
_MEMBERS = {"OKP": ("crv", "x"), "EC": ("crv", "x", "y"), "RSA": ("n", "e")}
# What a header may say for each kind of key, and the algorithm that is then used.
_ALGORITHMS = {
    ("OKP", "Ed25519"): ("Ed25519", frozenset({"EdDSA", "Ed25519"})),
    ("EC", "P-256"): ("ES256", frozenset({"ES256"})),
    ("RSA", None): ("RS256", frozenset({"RS256"})),
}
ALGORITHMS = frozenset().union(*(names for _, names in _ALGORITHMS.values()))
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


class BadJwk(ValueError):
    """A key is not one that we accept; the message says why and carries nothing of it."""


class BadJwt(Exception):
    """A token is not acceptable. `reason` is a fixed phrase and carries nothing of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key that may verify. `names` are the spellings of its algorithm in a header."""

    kid: str
    algorithm: str
    names: frozenset[str]
    material: Mapping[str, str]
    thumbprint: str
    _key: jwk.Key = field(repr=False, compare=False)

    @classmethod
    def of(cls, found: object) -> PublicKey:
        """Read a JWK (RFC 7517) that holds a public key only. Raises BadJwk."""
        if not isinstance(found, dict):
            raise BadJwk("A key is written as one JSON object, a JWK.")
        if _PRIVATE & set(found):
            raise BadJwk("This JWK holds a private or shared key. Give the public half only.")
        algorithm, names = _algorithm(found)
        _check_use(found, names)
        material = {name: found.get(name) for name in ("kty", *_MEMBERS[found["kty"]])}
        if not all(isinstance(value, str) for value in material.values()):
            raise BadJwk("A member of this JWK is missing.")
        key = _import(material)
        kid = found.get("kid", "")
        return cls(
            kid=kid if isinstance(kid, str) else "",
            algorithm=algorithm,
            names=names,
            material={name: str(value) for name, value in material.items()},
            thumbprint=key.thumbprint(),
            _key=key,
        )

    def verify(self, token: Token) -> None:
        """Raise BadJwt unless this key signed the token by its own algorithm."""
        if token.algorithm not in self.names:
            raise BadJwt("algorithm")
        model = jws.JWSRegistry.algorithms[self.algorithm]
        try:
            is_right = model.verify(token.signed, token.signature, self._key)
        except (errors.JoseError, ValueError):
            is_right = False
        if not is_right:
            raise BadJwt("signature")


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was read and not yet verified: nothing in it is true so far."""

    kid: str
    algorithm: str
    claims: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def text(self, name: str) -> str:
        """Return a claim that is text, or "" when it is missing or something else."""
        value = self.claims.get(name)
        return value if isinstance(value, str) else ""

    def is_for(self, audience: str) -> bool:
        """Say whether it is meant for this audience and for no other."""
        return self.claims.get("aud") in (audience, [audience])


def parse(text: str) -> Token:
    """Read a token in compact form. Raises BadJwt."""
    parts = text.split(".")
    if len(text) > LONGEST_TOKEN or len(parts) != len(("header", "claims", "signature")):
        raise BadJwt("form")
    header, claims = _object(parts[0]), _object(parts[1])
    if _POINTERS & set(header):
        raise BadJwt("header")
    algorithm, kid = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str) or not isinstance(kid, str):
        raise BadJwt("header")
    signed = f"{parts[0]}.{parts[1]}".encode("ascii")
    return Token(kid, algorithm, claims, signed, _decoded(parts[2]))


@functools.cache
def decoy(algorithm: str) -> PublicKey:
    """Return a key whose private half nobody has, to check a signature against when there is none.

    `algorithm` is one of ALGORITHMS. An RSA modulus is drawn, not made of two
    primes: verifying costs the same, and a prime search would show in the time.
    """
    if algorithm in _ALGORITHMS["RSA", None][1]:
        drawn = secrets.randbits(RSA_LEAST_BITS) | 1 << (RSA_LEAST_BITS - 1) | 1
        text = base64.urlsafe_b64encode(drawn.to_bytes(RSA_LEAST_BITS // 8)).decode().rstrip("=")
        return PublicKey.of({"kty": "RSA", "n": text, "e": "AQAB"})
    if algorithm in _ALGORITHMS["EC", "P-256"][1]:
        return PublicKey.of(jwk.generate_key("EC", "P-256", private=False).as_dict())
    return PublicKey.of(jwk.generate_key("OKP", "Ed25519", private=False).as_dict())


def check_times(token: Token, *, now: datetime, most_s: int | None = None) -> datetime:
    """Return the moment from which the token is never accepted again. Raises BadJwt.

    `exp` and `iat` are demanded, `nbf` is obeyed, each with a leeway of 30 s.
    most_s: the longest life in seconds that the token may claim, none for any.
    """
    moment = now.timestamp()
    issued, expires = _instant(token, "iat"), _instant(token, "exp")
    begins = _instant(token, "nbf") if "nbf" in token.claims else issued
    if moment >= expires + LEEWAY_S:
        raise BadJwt("expired")
    if moment < max(issued, begins) - LEEWAY_S:
        raise BadJwt("not yet valid")
    if expires <= issued or (most_s is not None and expires - issued > most_s):
        raise BadJwt("lifetime")
    return datetime.fromtimestamp(expires + LEEWAY_S, tz=now.tzinfo)


def _algorithm(found: Mapping[str, object]) -> tuple[str, frozenset[str]]:
    kind, curve = found.get("kty"), found.get("crv")
    if isinstance(kind, str) and (curve is None or isinstance(curve, str)):
        accepted = _ALGORITHMS.get((kind, curve))
        if accepted is not None:
            return accepted
    raise BadJwk("A key must be Ed25519, P-256 (ES256) or RSA (RS256).")


def _check_use(found: Mapping[str, object], names: frozenset[str]) -> None:
    """Raise BadJwk when a key says that it serves something else than our algorithm."""
    operations = found.get("key_ops", ["verify"])
    is_for_signing = found.get("use", "sig") == "sig" and operations in (
        ["verify"],
        ["sign", "verify"],
        ["verify", "sign"],
    )
    if not is_for_signing or found.get("alg", next(iter(names))) not in names:
        raise BadJwk(f"This key must serve signatures by {' or '.join(sorted(names))}.")


def _import(material: Mapping[str, Any]) -> jwk.Key:
    """Load a key, so that a point off its curve is refused here. Raises BadJwk."""
    if material["kty"] == "RSA":
        _check_size(material["n"])
    try:
        key = jwk.import_key(dict(material))
        key.get_op_key("verify")
    except (errors.JoseError, ValueError):
        raise BadJwk("This JWK is not a valid public key.") from None
    return key


def _check_size(modulus: str) -> None:
    try:
        bits = int.from_bytes(_decoded(modulus)).bit_length()
    except BadJwt:
        raise BadJwk("The modulus of this key is unreadable.") from None
    if not RSA_LEAST_BITS <= bits <= RSA_MOST_BITS:
        raise BadJwk(f"An RSA key must have {RSA_LEAST_BITS} to {RSA_MOST_BITS} bits.")


def _decoded(text: str) -> bytes:
    """Return the bytes of unpadded base64url. Python alone would skip what is no such character."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise BadJwt("form")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(
            _decoded(text).decode(), object_pairs_hook=_members, parse_constant=_no_constant
        )
        _check_text(found)
    except (ValueError, RecursionError):
        raise BadJwt("form") from None
    if not isinstance(found, dict):
        raise BadJwt("form")
    return found


def _check_text(found: object) -> None:
    """Raise ValueError for text that no database stores: half a surrogate pair, or NUL."""
    written = json.dumps(found, ensure_ascii=False)
    written.encode()
    if "\\u0000" in written:
        raise ValueError("NUL in a text")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice: one reader takes the first, another the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _instant(token: Token, name: str) -> float:
    """Return a NumericDate claim in seconds since 1970. Raises BadJwt."""
    value = token.claims.get(name)
    # `True` is a number to Python, and no calendar holds the year 10000.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadJwt("times")
    if not 0 < value < _YEAR_10000 - LEEWAY_S:
        raise BadJwt("times")
    return float(value)
