"""The part of GitHub's API that deals with one installation of an app and its tokens."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from keyvault.crypto.jwt_signing import BadSigningKey, sign_rs256
from keyvault.crypto.secret import Secret
from keyvault.plugins.json_api import JsonApi, NotAccepted, header_text
from keyvault.providers.base import JSON, Context, Misconfigured
from keyvault.providers.github_app.schema import URL

_APP = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_VERSION = "2022-11-28"
# The vendor takes at most 600 seconds, and advises a minute for clocks that differ.
_BACK_S, _AHEAD_S = 60, 480


@dataclass(frozen=True, slots=True)
class Installation:
    """One installation, seen by its app with a token that the app signs for itself."""

    api: JsonApi
    number: str

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """Return the installation of a call. Raises Misconfigured."""
        app = str(ctx.config.get("app") or "").strip()
        number = str(ctx.config.get("installation") or "").strip()
        if not _APP.fullmatch(app) or not _NUMBER.fullmatch(number):
            raise Misconfigured("Give the app by its client id and the installation by its number.")
        token = header_text(_signed(app, ctx.admin.get("private_key")), "signed token")
        return cls(_api(ctx, token), number)

    def read(self) -> Mapping[str, JSON]:
        """Return the installation. Raises Denied, NotFound, Transient."""
        return self.api.read(self._path)

    def make_token(self, body: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Make a token; the answer holds it, this once."""
        return self.api.change("POST", f"{self._path}/access_tokens", body)

    @property
    def _path(self) -> str:
        return f"/app/installations/{self.number}"


def try_token(ctx: Context, token: Secret | None) -> None:
    """List one repository with a token. Raises NotAccepted where GitHub knows it no more."""
    holder = _api(ctx, header_text(token, "token"))
    holder.read("/installation/repositories", {"per_page": 1})


def end_token(ctx: Context, token: Secret | None) -> None:
    """End a token, which takes the token itself. One that has ended counts as ended."""
    holder = _api(ctx, header_text(token, "token"))
    try:
        holder.change("DELETE", "/installation/token")
    except NotAccepted:
        return


def base_of(ctx: Context) -> str:
    """Return the API's address."""
    return str(ctx.config.get("url") or URL).strip().rstrip("/")


def _api(ctx: Context, token: str) -> JsonApi:
    headers = {
        "authorization": f"Bearer {token}",
        "accept": "application/vnd.github+json",
        "x-github-api-version": _VERSION,
        # GitHub refuses requests that do not say who asks.
        "user-agent": "keyvault",
    }
    return JsonApi(ctx, base_of(ctx), headers)


def _signed(app: str, private_key: Secret | None) -> Secret:
    """Return the app's own token. The present time is part of it and decides nothing here."""
    if private_key is None:
        raise Misconfigured("The Connection has no private key. Enter it again.")
    now = int(time.time())
    try:
        claims: dict[str, str | int] = {"iat": now - _BACK_S, "exp": now + _AHEAD_S, "iss": app}
        return sign_rs256(private_key, claims)
    except BadSigningKey as error:
        raise Misconfigured(str(error)) from None
