"""Where keyvault is and who this program is: from arguments, then from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from keyvault.client.identities import (
    ClientSecret,
    GitHubActions,
    Identity,
    OutsideToken,
    PrivateKey,
)
from keyvault.crypto.secret import Secret

if TYPE_CHECKING:
    from ssl import SSLContext

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# Where a Kubernetes volume of the kind `serviceAccountToken` is mounted in the examples.
PROJECTED = Path("/var/run/secrets/keyvault/token")
REFRESH_S, TIMEOUT_S = 30.0, 10.0
_DAY_S = 86_400


class BadSettings(ValueError):
    """The client cannot start with these settings; the message says the mend."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach keyvault. `token` stands for an identity where a token is given.

    refresh_s: how long an answer is used without asking again. stale_for_s: how
    long the last good version is served while the server is away; None means as
    long as the answer itself allows. timeout_s: of one call.
    """

    url: str
    identity: Identity | None = None
    token: Secret | None = None
    keys: tuple[str, ...] = ()
    refresh_s: float = REFRESH_S
    stale_for_s: float | None = None
    timeout_s: float = TIMEOUT_S
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse an address that would carry a secret in the clear. Raises BadSettings."""
        require_safe(self.url)

    def tls(self) -> SSLContext:
        """Return how servers prove themselves: by the system's authorities, and ours if named."""
        import ssl  # noqa: PLC0415 - half of what a start costs, and loopback needs none

        context = ssl.create_default_context()
        if self.ca_file:
            context.load_verify_locations(self.ca_file)
        return context


def require_safe(url: str) -> str:
    """Return an address that may carry secrets: HTTPS, or this machine. Raises BadSettings."""
    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if not is_safe or not parts.hostname:
        raise BadSettings(f"{url} is no https address, so no secret is sent there.")
    return url.rstrip("/")


def from_environment(
    environ: Mapping[str, str] | None = None,
    *,
    url: str | None = None,
    client_id: str | None = None,
    client_secret: str | None = None,
    token: str | None = None,
    refresh_s: float | None = None,
    stale_for_s: float | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Settings:
    """Return the settings that arguments and KEYVAULT_* variables give. Raises BadSettings."""
    env = os.environ if environ is None else environ
    address = url or env.get("KEYVAULT_URL")
    if not address:
        raise BadSettings("KEYVAULT_URL is not set. Set it to the address of the console.")
    given = token or _text(env, "KEYVAULT_TOKEN")
    own_id = client_id or env.get("KEYVAULT_CLIENT_ID", "")
    identity = None
    if not given:
        identity = _identity(env, address, own_id, client_secret)
    return Settings(
        url=require_safe(address),
        identity=identity,
        token=Secret.of(given) if given else None,
        refresh_s=_seconds(env) if refresh_s is None else refresh_s,
        stale_for_s=stale_for_s,
        timeout_s=timeout_s,
        ca_file=env.get("KEYVAULT_CA_FILE"),
    )


def _identity(
    env: Mapping[str, str], url: str, client_id: str, client_secret: str | None
) -> Identity | None:
    """Return the first identity that is fully given: what was configured, then the platform's."""
    return _own(env, client_id, client_secret) or _platform(env, url, client_id)


def _own(env: Mapping[str, str], client_id: str, client_secret: str | None) -> Identity | None:
    secret, path = client_secret or env.get("KEYVAULT_CLIENT_SECRET"), None
    if not secret and env.get("KEYVAULT_CLIENT_SECRET_FILE"):
        path = Path(env["KEYVAULT_CLIENT_SECRET_FILE"])
    key = env.get("KEYVAULT_PRIVATE_KEY_FILE")
    if (secret or path or key) and not client_id:
        raise BadSettings("KEYVAULT_CLIENT_ID is not set. Set it to the id of the agent.")
    if secret or path:
        return ClientSecret(client_id, Secret.of(secret) if secret else None, path)
    return PrivateKey(client_id, Path(key)) if key else None


def _platform(env: Mapping[str, str], url: str, client_id: str) -> Identity | None:
    text = env.get("KEYVAULT_ID_TOKEN")
    if text:
        return OutsideToken(client_id, text=Secret.of(text))
    path = Path(env.get("KEYVAULT_ID_TOKEN_FILE") or PROJECTED)
    if env.get("KEYVAULT_ID_TOKEN_FILE") or path.exists():
        return OutsideToken(client_id, path=path)
    bearer = env.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    if bearer and env.get("ACTIONS_ID_TOKEN_REQUEST_URL"):
        audience = env.get("KEYVAULT_AUDIENCE") or url.rstrip("/")
        return GitHubActions(
            env["ACTIONS_ID_TOKEN_REQUEST_URL"], Secret.of(bearer), audience, client_id
        )
    return None


def _seconds(env: Mapping[str, str]) -> float:
    """Return KEYVAULT_REFRESH_S. Raises BadSettings."""
    text = env.get("KEYVAULT_REFRESH_S") or str(REFRESH_S)
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 < found < _DAY_S:
        raise BadSettings(f"KEYVAULT_REFRESH_S is {text!r}; it takes a number of seconds.")
    return found


def _text(env: Mapping[str, str], name: str) -> str | None:
    """Return a variable, or what the file named by NAME_FILE holds. Raises BadSettings."""
    path = env.get(f"{name}_FILE")
    if not path:
        return env.get(name) or None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        message = f"{name}_FILE names {path}, which cannot be read: {error.strerror}."
        raise BadSettings(message) from error
