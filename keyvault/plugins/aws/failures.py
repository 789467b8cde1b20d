"""What an error of AWS means. Its code may be passed on, its text never.

A text can repeat what was sent. A code is passed on only where it reads as one:
a name in capitalised words, which no secret of AWS does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from keyvault.plugins.errors import (
    Ambiguous,
    Conflict,
    Denied,
    Misconfigured,
    NotFound,
    ProviderError,
    Transient,
)
from keyvault.plugins.json_api import NotAccepted
from keyvault.plugins.values import Reply

_SERVER_FAULT = 500
_FORBIDDEN, _TOO_MANY = 403, 429
_MOST_WAIT_S = 3600.0
# AWS rarely says how long to wait; its own kits begin with less and double it.
_USUAL_WAIT_S = 5.0
_CODE = re.compile(r"(?:[A-Z][a-z]+){1,9}")
_SKEW = re.compile(rb"Signature (?:expired|not yet current)")


class InvalidToken(NotAccepted):
    """AWS knows no such access key, or it is inactive: the one sure sign that it cannot be used."""


class InvalidParameter(Misconfigured):
    """A parameter does not fit the state of things there, as when a label has moved meanwhile."""


_Meaning = tuple[type[ProviderError], str]
_THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "SlowDown",
}
# Services of the JSON protocol answer these with 400.
_FORBIDDING = {"AccessDenied", "AccessDeniedException"}
_UNSIGNED = {
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
}
_MEANINGS: Mapping[str, _Meaning] = {
    "InvalidClientTokenId": (InvalidToken, "there is no such active access key"),
    "UnrecognizedClientException": (InvalidToken, "there is no such active access key"),
    "ExpiredToken": (NotAccepted, "the credential has expired"),
    "ExpiredTokenException": (NotAccepted, "the credential has expired"),
    "RequestExpired": (Denied, "the clock of this machine and that of AWS differ"),
    "DecryptionFailure": (Denied, "the encryption key of KMS may not be used"),
    "EncryptionFailure": (Denied, "the encryption key of KMS may not be used"),
    "NoSuchEntity": (NotFound, "there is no such thing"),
    "ResourceNotFoundException": (NotFound, "there is no such thing"),
    "LimitExceeded": (Conflict, "a quota is reached"),
    "LimitExceededException": (Conflict, "a quota is reached"),
    "ResourceExistsException": (Conflict, "it is there with another content"),
    "ConcurrentModification": (Transient, "somebody else is changing it"),
    "EntityTemporarilyUnmodifiable": (Transient, "it is busy"),
    "InvalidParameterException": (InvalidParameter, "it does not take this request"),
}


def failure(reply: Reply, code: str, right: str, *, is_change: bool) -> ProviderError:
    """Return what an answer with an error means.

    code: the vendor's word, still unvetted. right: what the request needs, such as
    iam:CreateAccessKey. After a change, a fault of the server is Ambiguous: it may
    have taken effect.
    """
    said = f"AWS answered {_shown(code)}" if _shown(code) else f"AWS answered {reply.status}"
    if code in _THROTTLED or reply.status == _TOO_MANY:
        return Transient(f"{said}: too many requests.", retry_after_s=_retry_after_s(reply))
    if reply.status >= _SERVER_FAULT:
        if is_change:
            return Ambiguous(f"{said} to a change, which may have taken effect.")
        return Transient(f"{said}; nothing was changed.")
    if code in _UNSIGNED:
        return _unsigned(reply, said)
    if code in _FORBIDDING or (reply.status == _FORBIDDEN and code not in _MEANINGS):
        return Denied(f"{said}: the credential lacks the right {right}.")
    kind, why = _MEANINGS.get(code, (Misconfigured, "it does not take this request"))
    return kind(f"{said}: {why}.")


def _unsigned(reply: Reply, said: str) -> ProviderError:
    """Tell a wrong secret from a wrong clock, which says nothing against the credential.

    The text is read here, and only compared.
    """
    if _SKEW.search(reply.body):
        return Denied(f"{said}: the clock of this machine and that of AWS differ.")
    return NotAccepted(f"{said}: the secret does not belong to the access key.")


def _shown(code: str) -> str:
    return code if _CODE.fullmatch(code) else ""


def _retry_after_s(reply: Reply) -> float:
    text = reply.headers.get("retry-after", "")
    return min(float(text), _MOST_WAIT_S) if re.fullmatch(r"[0-9]{1,6}", text) else _USUAL_WAIT_S
