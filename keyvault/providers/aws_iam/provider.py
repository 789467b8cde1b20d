"""The AWS IAM provider: what each call of the protocol does, request by request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from keyvault.plugins import aws
from keyvault.providers.aws_iam import schema
from keyvault.providers.aws_iam.account import QUOTA, USER, Account, Name, full, new_since
from keyvault.providers.aws_iam.renewal import AdminKey
from keyvault.providers.base import (
    Attempt,
    Capabilities,
    Conflict,
    Context,
    Denied,
    Field,
    Issued,
    LastUse,
    Misconfigured,
    NotFound,
    Page,
    Problem,
    ProviderError,
    Recovery,
    RemoteKey,
    Shape,
    Validation,
    Verdict,
    tag_of,
)

# AWS says that a change in IAM takes seconds to be known everywhere.
_SETTLE_S = 15.0
_ELSEWHERE = "Correct the Connection; docs/providers/aws-iam.md has the admin's rights."
_ALLOW = (
    "Allow it to the admin's user for the users below the path, and see that the key's user exists"
    " there; docs/providers/aws-iam.md has the policy."
)


class AwsIam(AdminKey):
    """Issues access keys of IAM users that exist already, at most two of each.

    AWS chooses the value, shows it once and knows neither a name for a key nor an
    idempotency key: after a lost answer the key is found as the one that was not
    there before, ended and made anew. So the user's keys must be keyvault's alone.
    """

    kind: ClassVar[str] = "aws_iam"
    title: ClassVar[str] = "AWS access key"
    verified_by: ClassVar[str] = "fake"
    value_field: ClassVar[str] = "secret_access_key"
    takes_listed: ClassVar[bool] = True
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = schema.OPTIONS

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return two keys side by side, found again by comparing with those before."""
        del ctx
        return Capabilities(
            Shape.MULTI,
            Recovery.DIFF,
            max_live=QUOTA,
            can_suspend=True,
            reports_last_use=True,
            settle_s=_SETTLE_S,
            revoke_lag_s=_SETTLE_S,
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Return what is wrong with the settings, the admin's access key and its rights to read.

        Rights to write show only when they are used: an error then names the one that lacks.
        """
        try:
            account = Account.of(ctx)
            account.require_same()
        except Denied as error:
            return [Problem(error.sentence, "Enter an access key that is active in the account.")]
        except ProviderError as error:
            return [Problem(error.sentence, _ELSEWHERE)]
        return _missing_rights(account, str(ctx.options.get("user") or ""))

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Note the keys that the user has. Raises Conflict when there are two."""
        del current
        account, user = Account.of(ctx), _user(ctx)
        account.require_same()
        account.require_user(user)
        keys = account.keys(user)
        if len(keys) >= QUOTA:
            raise Conflict(full(user, keys))
        before = tuple(key.remote_id for key in keys)
        return Attempt(op_id, number, tag_of(op_id, number), before=before, facts={"user": user})

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Make the access key, in one request."""
        account, user = Account.of(ctx), attempt.facts["user"]
        name, secret = account.create(user)
        public = {"access_key_id": name.key_id, "user": user, "account": account.account_id}
        return Issued(
            name.remote_id,
            tag=attempt.tag,
            public=public,
            material={"secret_access_key": secret},
        )

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the user's active key that was not there when the attempt was planned.

        Raises Conflict where there are two: one of them is somebody else's.
        """
        keys = Account.of(ctx).keys(attempt.facts["user"])
        found = new_since(keys, attempt.before, attempt.tag)
        if len(found) > 1:
            raise Conflict(_unclear(attempt.facts["user"], found))
        return found

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """Ask STS, with the access key, whose it is. Needs no right and costs nothing."""
        name = Name.of(issued.remote_id)
        if name is None:
            return Validation(Verdict.UNKNOWN, detail="That is no access key of this provider.")
        try:
            key = aws.AccessKey.of(issued.material, key_id=name.key_id)
            account = Account.of(ctx, key)
            found, arn = account.identity()
        except aws.InvalidToken:
            return Validation(Verdict.INVALID, name.user, "AWS knows no such active access key.")
        except aws.NotAccepted as error:
            return Validation(Verdict.INVALID, name.user, error.sentence)
        except ProviderError:
            return Validation(Verdict.UNKNOWN, name.user, "AWS gave no clear answer.")
        if found != account.account_id or arn.rpartition("/")[2] != name.user:
            return Validation(Verdict.UNKNOWN, name.user, "AWS names another user.")
        return Validation(Verdict.VALID, arn, "AWS says whose it is.")

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Delete the access key. Temporary credentials that were drawn with it go on."""
        del kill_sessions
        account, name = Account.of(ctx), Name.of(key.remote_id)
        if name is not None:
            account.delete(name)

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return the access keys of a page of the users below the path, whoever made them."""
        account = Account.of(ctx)
        users, after = account.users(cursor)
        return Page(tuple(key for user in users for key in account.keys(user)), after)

    def suspend(self, ctx: Context, key: RemoteKey) -> None:
        """Set the access key to Inactive. Raises NotFound."""
        Account.of(ctx).switch(_named(key), "Inactive")

    def resume(self, ctx: Context, key: RemoteKey) -> None:
        """Set the access key to Active again. Raises NotFound."""
        Account.of(ctx).switch(_named(key), "Active")

    def last_use(self, ctx: Context, key: RemoteKey) -> LastUse:
        """Return when AWS last saw the access key in use, which it tells with a delay."""
        return LastUse(Account.of(ctx).last_use(_named(key)))

    def foresee(self, ctx: Context) -> Sequence[str]:
        """Return nothing, as the user exists already. Raises Misconfigured on its name."""
        _user(ctx)
        return ()


def _missing_rights(account: Account, user: str) -> list[Problem]:
    """Read once by each right to read; `user` is the key's, empty for a Connection alone.

    Only what exists is asked for: AWS denies what it cannot find below the path.
    """
    users: list[str] = []
    found = _problems(lambda: users.extend(account.users()[0]))
    someone = user or next(iter(users), "")
    if someone:
        found += _problems(lambda: account.require_user(someone))
        found += _problems(lambda: account.keys(someone))
        found += _problems(lambda: account.look_at_use(someone))
    elif not found:
        nobody = f"There is no IAM user below the path {account.path} yet."
        found.append(Problem(nobody, "Make one for each key, with its rights.", is_fatal=False))
    # Two reads may lack the same right.
    return list(dict.fromkeys(found))


def _problems(read: Callable[[], object]) -> list[Problem]:
    """Return what stands in the way of one read, which is nothing or one thing."""
    try:
        read()
    except Denied as error:
        return [Problem(error.sentence, _ALLOW)]
    except NotFound:
        return [Problem("There is no such IAM user.", "Make it, with its rights.")]
    except ProviderError as error:
        return [Problem(error.sentence, _ELSEWHERE)]
    return []


def _user(ctx: Context) -> str:
    user = str(ctx.options.get("user") or "").strip()
    if not USER.fullmatch(user):
        raise Misconfigured("Name the IAM user as AWS writes it, without its path.")
    return user


def _named(key: RemoteKey) -> Name:
    name = Name.of(key.remote_id)
    if name is None:
        raise NotFound("That is no access key of this provider.")
    return name


def _unclear(user: str, keys: Sequence[RemoteKey]) -> str:
    held = ", ".join(key.hint for key in keys)
    return (
        f"The user {user} got two access keys at once, and one is not ours: {held}."
        " End there whichever nobody uses."
    )
