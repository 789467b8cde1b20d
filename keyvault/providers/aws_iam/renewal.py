"""Renew the access key of the admin itself: an IAM user has room for two."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from keyvault.crypto.secret import Secret
from keyvault.plugins import aws
from keyvault.providers.aws_iam.account import QUOTA, USER, Account, Name, full
from keyvault.providers.base import (
    Attempt,
    Capabilities,
    Conflict,
    Context,
    Misconfigured,
    ProviderError,
    Recovery,
    RemoteKey,
    Shape,
    Validation,
    Verdict,
    tag_of,
)


class AdminKey:
    """What the provider does with the Connection's own access key."""

    def admin_capabilities(self, ctx: Context) -> Capabilities:
        """Return two keys side by side, found again by comparing with those before."""
        del ctx
        return Capabilities(Shape.MULTI, Recovery.DIFF, max_live=QUOTA)

    def prepare_admin(self, ctx: Context, op_id: str, number: int) -> Attempt:
        """Note the keys that the admin's user has. Raises Conflict when there are two."""
        account = Account.of(ctx)
        found, arn = account.identity()
        user = _user_of(arn)
        if found != account.account_id or not USER.fullmatch(user):
            raise Misconfigured("The admin's access key is not that of an IAM user of the account.")
        keys = account.keys(user)
        if len(keys) >= QUOTA:
            raise Conflict(full(user, keys))
        before = tuple(_mark(key) for key in keys)
        return Attempt(op_id, number, tag_of(op_id, number), before=before, facts={"user": user})

    def create_admin(self, ctx: Context, attempt: Attempt) -> Mapping[str, Secret]:
        """Make the access key, in one request."""
        name, secret = Account.of(ctx).create(attempt.facts["user"])
        return {"access_key_id": Secret.of(name.key_id), "secret_access_key": secret}

    def withdraw_admin(self, ctx: Context, attempt: Attempt) -> None:
        """Delete the key that was not there when the attempt was planned.

        Raises Conflict where there are two: one of them is somebody else's.
        """
        account = Account.of(ctx)
        keys = account.keys(attempt.facts["user"])
        found = [key for key in keys if key.is_enabled and _mark(key) not in attempt.before]
        if len(found) > 1:
            raise Conflict("The admin's user got two access keys at once, and one is not ours.")
        for key in found:
            name = Name.of(key.remote_id)
            if name is not None:
                account.delete(name)

    def validate_admin(self, ctx: Context) -> Validation:
        """Ask STS whose the access key is. Needs no right and costs nothing."""
        try:
            account = Account.of(ctx)
            found, arn = account.identity()
        except aws.NotAccepted as error:
            return Validation(Verdict.INVALID, detail=error.sentence)
        except ProviderError as error:
            return Validation(Verdict.UNKNOWN, detail=error.sentence)
        if found != account.account_id:
            return Validation(Verdict.UNKNOWN, arn, "The access key is of another account.")
        return Validation(Verdict.VALID, arn, "AWS says whose it is.")

    def revoke_admin(self, ctx: Context, old: Mapping[str, Secret]) -> None:
        """Delete the old access key. Temporary credentials that were drawn with it go on."""
        account = Account.of(ctx)
        _, arn = account.identity()
        account.delete(Name(_user_of(arn), old["access_key_id"].reveal().decode()))


def _mark(key: RemoteKey) -> str:
    """Return what tells the admin's keys apart; their ids are sealed with the rest of them."""
    return hashlib.sha256(key.remote_id.encode()).hexdigest()


def _user_of(arn: str) -> str:
    """Return the name of the IAM user that an ARN names, empty where it names no user."""
    kind, _, path = arn.rpartition(":")[2].partition("/")
    return path.rpartition("/")[2] if kind == "user" else ""
