"""The Cloudflare provider: what each call of the protocol does, request by request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from keyvault.crypto.secret import Secret
from keyvault.plugins.json_api import NotAccepted, header_text
from keyvault.providers.base import (
    Ambiguous,
    Attempt,
    Capabilities,
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
    Transient,
    Validation,
    Verdict,
    tag_of,
)
from keyvault.providers.cloudflare import schema
from keyvault.providers.cloudflare.account import ID, Account
from keyvault.providers.cloudflare.policy import Policy

_MENDS = {
    Denied.code: "Enter an API token with the permission Account API Tokens Write on this account.",
    Misconfigured.code: "Correct the Connection, or have the address approved on its allow-list.",
    NotFound.code: "Enter the id of an account that the token may see.",
    Transient.code: "Wait a little and check again.",
}


class Cloudflare:
    """Issues one API token of the account per credential, named by its attempt.

    The vendor chooses the value and shows it once. It knows no idempotency key,
    so that after a lost answer the token is found by its name, ended and made anew.
    """

    kind: ClassVar[str] = "cloudflare"
    title: ClassVar[str] = "Cloudflare API token"
    verified_by: ClassVar[str] = "fake"
    value_field: ClassVar[str] = "api_token"
    takes_listed: ClassVar[bool] = True
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = schema.OPTIONS

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return tokens side by side, found again by their names."""
        del ctx
        return Capabilities(Shape.MULTI, Recovery.TAGGED, reports_last_use=True)

    def check(self, ctx: Context) -> list[Problem]:
        """Read the account's tokens and permission groups, and say what is wrong."""
        try:
            account = Account.of(ctx)
            account.page(None)
            account.permission_groups()
        except ProviderError as error:
            return [Problem(error.sentence, _MENDS.get(error.code, "Correct the Connection."))]
        return []

    def foresee(self, ctx: Context) -> Sequence[str]:
        """Check a key's rights while it is asked for; no account is known beforehand."""
        Policy.of(ctx, str(ctx.config.get("account") or ""))
        return ()

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """See that the rights which the key asks for exist. Raises Misconfigured."""
        del current
        account = Account.of(ctx)
        Policy.of(ctx, account.account_id).check_groups(account.permission_groups())
        return Attempt(op_id, number, tag_of(op_id, number))

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Make the token, in one request."""
        account = Account.of(ctx)
        made = account.create(Policy.of(ctx, account.account_id).body(attempt.tag))
        token_id, value = made.get("id"), made.get("value")
        if not isinstance(token_id, str) or not ID.fullmatch(token_id):
            raise Ambiguous("The API answered without the id of the new token.")
        if not isinstance(value, str) or not value:
            raise Ambiguous("The API answered without the value of the new token.")
        return Issued(
            token_id,
            tag=attempt.tag,
            public={"base_url": account.api.base.rstrip("/"), "account": account.account_id},
            material={"api_token": Secret.of(value)},
        )

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the tokens of the account that bear the attempt's name."""
        return [key for key in Account.of(ctx).every() if key.tag == attempt.tag]

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """Ask the API, with the token, whether the token works."""
        try:
            token = header_text(issued.material.get("api_token"), "token")
            token_id, state = Account.seen_with(ctx, token).verify()
        except NotAccepted:
            return Validation(Verdict.INVALID, issued.remote_id, "The API does not accept it.")
        except Denied:
            why = "The API refuses the token here, perhaps because of its networks."
            return Validation(Verdict.UNKNOWN, issued.remote_id, why)
        except ProviderError:
            return Validation(Verdict.UNKNOWN, issued.remote_id, "The API gave no clear answer.")
        return _judged(issued.remote_id, token_id, state)

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Delete the token; requests with it are refused from then on."""
        del kill_sessions
        account = Account.of(ctx)
        if ID.fullmatch(key.remote_id):
            account.delete(key.remote_id)

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return a page of all tokens of the account, those of people among them."""
        return Account.of(ctx).page(cursor)

    def last_use(self, ctx: Context, key: RemoteKey) -> LastUse:
        """Return when the vendor last saw the token in use. Raises NotFound."""
        if not ID.fullmatch(key.remote_id):
            raise NotFound("The id is none of this vendor's.")
        return LastUse(Account.of(ctx).read(key.remote_id).last_used_at)


def _judged(remote_id: str, token_id: str, state: str) -> Validation:
    """Return what the API's word on a token means; a word that we do not know means nothing."""
    if token_id != remote_id:
        return Validation(Verdict.UNKNOWN, remote_id, "The API names another token.")
    if state == "active":
        return Validation(Verdict.VALID, remote_id, "The API says that the token is active.")
    if state in {"disabled", "expired"}:
        return Validation(Verdict.INVALID, remote_id, f"The API says that the token is {state}.")
    return Validation(Verdict.UNKNOWN, remote_id, "The API gave no clear answer.")
