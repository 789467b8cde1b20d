"""Sign a request by Signature Version 4, which is all that we take of botocore."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from keyvault.plugins.errors import Misconfigured

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret

# The lengths are those of the IAM API reference, "AccessKey".
_KEY_ID = re.compile(r"[A-Z0-9]{16,128}")
_SECRET = re.compile(r"[!-~]{16,256}")


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key: its id and the secret that signs, in clear for the length of one call.

    `token` belongs to a temporary one.
    """

    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, material: Mapping[str, Secret], *, key_id: str = "") -> Self:
        """Take it from unsealed material. `key_id` replaces the id where that is kept elsewhere.

        Raises Misconfigured where a part is missing or cannot be one: an encoder's
        own error would carry the value.
        """
        found = key_id or _text(material.get("access_key_id"))
        secret = _text(material.get("secret_access_key"))
        if not _KEY_ID.fullmatch(found) or not _SECRET.fullmatch(secret):
            raise Misconfigured("The access key of AWS is missing or is not in AWS's form.")
        return cls(found, secret)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signature is good for: one service in one region."""

    service: str
    region: str


def signed(
    key: AccessKey, scope: Scope, url: str, *, headers: Mapping[str, str], body: bytes
) -> dict[str, str]:
    """Return the headers of a POST of `body` to `url`, together with those that sign it."""
    # Botocore is large, and only a Connection of AWS needs it.
    from botocore.auth import SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    # Named here, so that what is signed is what is sent, whatever default ports do.
    named = {"host": urlsplit(url).netloc.lower(), **headers}
    request = AWSRequest(method="POST", url=url, headers=named, data=body)
    credentials = Credentials(key.key_id, key.secret, key.token or None)
    SigV4Auth(credentials, scope.service, scope.region).add_auth(request)
    return {str(name): str(value) for name, value in request.headers.items()}


def _text(secret: Secret | None) -> str:
    value = secret.reveal() if secret is not None else b""
    return value.decode("ascii") if value.isascii() else ""
