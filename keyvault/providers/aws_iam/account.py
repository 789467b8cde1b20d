"""One AWS account as the provider sees it: users, their access keys, and who one is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from xml.etree import ElementTree as ET

from keyvault.crypto.secret import Secret
from keyvault.plugins import aws
from keyvault.providers.base import (
    Ambiguous,
    Context,
    Misconfigured,
    NotFound,
    RemoteKey,
    Transient,
)

IAM_VERSION, STS_VERSION = "2010-05-08", "2011-06-15"
QUOTA = 2
# Each user of a page costs a call more, all within one deadline.
_USERS_A_PAGE = 20
_ACCOUNT = re.compile(r"[0-9]{12}")
USER = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
_PATH = re.compile(r"/(?:[!-.0-~]{1,100}/){0,5}")
_REMOTE = re.compile(r"([A-Za-z0-9_+=,.@-]{1,64})/([A-Z0-9]{16,128})")


@dataclass(frozen=True, slots=True)
class Name:
    """An access key by its user and its id, which together are its identity to us."""

    user: str
    key_id: str

    @classmethod
    def of(cls, remote_id: str) -> Self | None:
        """Read what `remote_id` wrote; None for what is no such name."""
        found = _REMOTE.fullmatch(remote_id)
        return cls(found[1], found[2]) if found else None

    @property
    def remote_id(self) -> str:
        """Both in one word, so that a key can be ended without anything else at hand."""
        return f"{self.user}/{self.key_id}"


@dataclass(frozen=True, slots=True)
class Account:
    """The account of a Connection, seen with the admin's access key."""

    account_id: str
    path: str
    iam: aws.Service
    sts: aws.Service

    @classmethod
    def of(cls, ctx: Context, key: aws.AccessKey | None = None) -> Self:
        """Read the Connection's settings. `key` signs in place of the admin's.

        Raises Misconfigured on settings that cannot work.
        """
        account_id = str(ctx.config.get("account") or "").strip()
        path = str(ctx.config.get("path") or "/").strip()
        region = str(ctx.config.get("region") or "us-east-1").strip()
        if not _ACCOUNT.fullmatch(account_id):
            raise Misconfigured("Write the account as its 12 digits.")
        if not _PATH.fullmatch(path):
            raise Misconfigured("A path begins and ends with a slash, such as /keyvault/.")
        part, signer = aws.partition_of(region), key or aws.AccessKey.of(ctx.admin)
        own = str(ctx.config.get("endpoint") or "").strip()
        iam_url, sts_url = f"https://{part.iam_host}", f"https://sts.{region}.{part.domain}"
        return cls(
            account_id,
            path,
            aws.Service(ctx, signer, "iam", part.iam_region, own or iam_url),
            aws.Service(ctx, signer, "sts", region, own or sts_url),
        )

    def identity(self) -> tuple[str, str]:
        """Return the account and the ARN of whoever signs; this needs no right."""
        found = self.sts.read_query(STS_VERSION, "GetCallerIdentity")
        account_id, arn = _text(found, "Account"), _text(found, "Arn")
        if not account_id or not arn:
            raise Transient("AWS did not say whose access key that is.")
        return account_id, arn

    def require_same(self) -> None:
        """Raise Misconfigured when the admin's access key belongs to another account."""
        found, _ = self.identity()
        if found != self.account_id:
            raise Misconfigured(
                f"The admin's access key belongs to the account {found}, not {self.account_id}."
            )

    def require_user(self, user: str) -> None:
        """Raise Misconfigured or NotFound when a user may get no keys from here."""
        found = aws.child(self.iam.read_query(IAM_VERSION, "GetUser", UserName=user), "User")
        path = _text(found, "Path") if found is not None else ""
        if not path.startswith(self.path):
            raise Misconfigured(f"The user {user} is not below the path {self.path}.")

    def users(self, marker: str | None = None) -> tuple[list[str], str | None]:
        """Return the names of a page of users below the path, and where the next one begins."""
        more = {"Marker": marker} if marker else {}
        found = self.iam.read_query(
            IAM_VERSION, "ListUsers", PathPrefix=self.path, MaxItems=str(_USERS_A_PAGE), **more
        )
        names = [fields.get("UserName", "") for fields in aws.children(found, "Users")]
        return names, _next(found)

    def keys(self, user: str) -> list[RemoteKey]:
        """Return all access keys of a user, active or not."""
        found = self.iam.read_query(IAM_VERSION, "ListAccessKeys", UserName=user)
        if _next(found) is not None:
            raise Transient("AWS lists more access keys than a user can have.")
        return [_key(user, fields) for fields in aws.children(found, "AccessKeyMetadata")]

    def create(self, user: str) -> tuple[Name, Secret]:
        """Make an access key. Raises Conflict when the user has two already."""
        found = self.iam.change_query(IAM_VERSION, "CreateAccessKey", UserName=user)
        made = aws.child(found, "AccessKey")
        key_id = _text(made, "AccessKeyId") if made is not None else ""
        secret = _text(made, "SecretAccessKey") if made is not None else ""
        name = Name(user, key_id)
        if Name.of(name.remote_id) is None or not secret:
            raise Ambiguous("AWS answered without the new access key.")
        return name, Secret.of(secret)

    def delete(self, name: Name) -> None:
        """End an access key; an absent one counts as ended where the account is the right one."""
        try:
            self.iam.change_query(
                IAM_VERSION, "DeleteAccessKey", UserName=name.user, AccessKeyId=name.key_id
            )
        except NotFound:
            # In another account it would be absent too, while it lives on in its own.
            self.require_same()

    def switch(self, name: Name, status: str) -> None:
        """Set an access key to Active or Inactive. Raises NotFound."""
        self.iam.change_query(
            IAM_VERSION,
            "UpdateAccessKey",
            UserName=name.user,
            AccessKeyId=name.key_id,
            Status=status,
        )

    def last_use(self, name: Name) -> datetime | None:
        """Return when AWS last saw the key, None when it never did. Raises NotFound."""
        found = self.iam.read_query(IAM_VERSION, "GetAccessKeyLastUsed", AccessKeyId=name.key_id)
        used = aws.child(found, "AccessKeyLastUsed")
        return _time(_text(used, "LastUsedDate")) if used is not None else None

    def look_at_use(self, user: str) -> None:
        """Ask for the last use of any key of a user, to see whether that is allowed."""
        for key in self.keys(user)[:1]:
            self.last_use(Name(user, key.hint))


def _key(user: str, fields: dict[str, str]) -> RemoteKey:
    name = Name(user, fields.get("AccessKeyId", ""))
    return RemoteKey(
        name.remote_id,
        is_enabled=fields.get("Status") == "Active",
        created_at=_time(fields.get("CreateDate", "")),
        hint=name.key_id,
    )


def new_since(keys: Iterable[RemoteKey], before: Iterable[str], tag: str) -> list[RemoteKey]:
    """Return the active keys that were not there before, under the tag of the attempt."""
    known = set(before)
    return [
        RemoteKey(key.remote_id, tag=tag, is_enabled=True, created_at=key.created_at, hint=key.hint)
        for key in keys
        if key.is_enabled and key.remote_id not in known
    ]


def full(user: str, keys: Sequence[RemoteKey]) -> str:
    """Say which two keys are there; ids of access keys are no secrets."""
    held = ", ".join(f"{key.hint} ({'' if key.is_enabled else 'in'}active)" for key in keys)
    return f"The user {user} has two access keys, and AWS allows no more: {held}. End one there."


def _text(element: ET.Element, name: str) -> str:
    found = aws.child(element, name)
    return (found.text or "") if found is not None else ""


def _next(found: ET.Element) -> str | None:
    """Return where the next page begins, None on the last."""
    return (_text(found, "Marker") or None) if _text(found, "IsTruncated") == "true" else None


def _time(text: str) -> datetime | None:
    """Return a moment as AWS writes it; a key that was never used has none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
