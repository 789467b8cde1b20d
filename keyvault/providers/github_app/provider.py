"""The GitHub App provider: what each call of the protocol does, request by request."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import ClassVar

from keyvault.crypto.secret import Secret
from keyvault.plugins.json_api import NotAccepted, instant
from keyvault.providers.base import (
    Ambiguous,
    Attempt,
    Capabilities,
    Context,
    Denied,
    Field,
    Issued,
    Misconfigured,
    NotFound,
    Page,
    Problem,
    ProviderError,
    Recovery,
    RemoteKey,
    Shape,
    Transient,
    Unsupported,
    Validation,
    Verdict,
    tag_of,
)
from keyvault.providers.github_app import schema
from keyvault.providers.github_app.installation import (
    Installation,
    base_of,
    end_token,
    try_token,
)
from keyvault.providers.github_app.rights import LIFE_S, Rights, longest_s

_MENDS = {
    Denied.code: "Enter a private key that the app has now, and see that this clock is right.",
    Misconfigured.code: "Correct the Connection, or have the address approved on its allow-list.",
    NotFound.code: "Enter the number of an installation of this app.",
    Transient.code: "Wait a little and check again.",
}


class GitHubApp:
    """Mints installation tokens: for one run each, ended by GitHub after an hour at the latest.

    Nothing lists such tokens, and only the token itself can end one early. A token
    whose answer was lost is known to nobody and ends by itself.
    """

    kind: ClassVar[str] = "github_app"
    title: ClassVar[str] = "GitHub App installation token"
    verified_by: ClassVar[str] = "fake"
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = schema.OPTIONS
    life_s: ClassVar[int] = LIFE_S

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return credentials for one run, of which a lost one needs no repair."""
        del ctx
        return Capabilities(Shape.EPHEMERAL, Recovery.NONE)

    def check(self, ctx: Context) -> list[Problem]:
        """Read the installation as its app, and say what is wrong."""
        try:
            found = Installation.of(ctx).read()
        except ProviderError as error:
            return [Problem(error.sentence, _MENDS.get(error.code, "Correct the Connection."))]
        if found.get("suspended_at"):
            return [Problem("The installation is suspended.", "Have it unsuspended at GitHub.")]
        return []

    def foresee(self, ctx: Context) -> Sequence[str]:
        """Return no account, after a look at the key's settings. Raises Misconfigured."""
        Rights.of(ctx)
        longest_s(ctx)
        return ()

    def longest_s(self, ctx: Context) -> int:
        """Return the key's own limit, which is below GitHub's hour."""
        return longest_s(ctx)

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Check the key's rights and read the installation. Raises Misconfigured."""
        del current
        self.foresee(ctx)
        Installation.of(ctx).read()
        return Attempt(op_id, number, tag_of(op_id, number))

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Refuse: a token that ends within an hour is nothing to keep as a version."""
        del ctx, attempt
        raise Unsupported("Installation tokens are made for one run, when it begins.")

    def mint(self, ctx: Context, subject: str, scopes: Sequence[str], ttl_s: int) -> Issued:
        """Make a token with the key's rights, or with those of them that `scopes` name.

        The token lives an hour, however short `ttl_s` is: a caller that wants less
        ends it. `subject` is not told. Raises Misconfigured on more rights than the
        key has and on a longer life.
        """
        del subject
        if ttl_s > LIFE_S:
            raise Misconfigured(f"An installation token lives {LIFE_S} seconds at most.")
        rights = Rights.of(ctx).narrowed(scopes)
        made = Installation.of(ctx).make_token(rights.body())
        token, expires_at = made.get("token"), instant(made.get("expires_at"))
        if not isinstance(token, str) or not token or expires_at is None:
            raise Ambiguous("The API answered without the token or its end.")
        return Issued(
            _digest(token),
            public={"base_url": base_of(ctx), **rights.public()},
            expires_at=expires_at,
            material={"token": Secret.of(token)},
        )

    def end(self, ctx: Context, issued: Issued) -> None:
        """End a token before its hour is over."""
        end_token(ctx, issued.material.get("token"))

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return nothing: no attempt leaves a lasting credential."""
        del ctx, attempt
        return []

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """List one repository with the token."""
        try:
            try_token(ctx, issued.material.get("token"))
        except NotAccepted:
            return Validation(Verdict.INVALID, "", "GitHub does not accept the token.")
        except ProviderError:
            return Validation(Verdict.UNKNOWN, "", "GitHub gave no clear answer.")
        return Validation(Verdict.VALID, "", "Listed a repository of the installation.")

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Refuse: only the token itself can end it, by `end`, and its id does not bring it back."""
        del ctx, key, kill_sessions
        raise Unsupported("GitHub ends an installation token only for whoever holds it.")

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return nothing: GitHub lists no tokens."""
        del ctx, cursor
        return Page(())


def _digest(token: str) -> str:
    """Return the token's SHA-256 in base64, by which GitHub's audit log names it (hashed_token)."""
    return base64.b64encode(hashlib.sha256(token.encode()).digest()).decode()
