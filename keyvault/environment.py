"""Read configuration from the environment, or stop with a sentence that says the mend."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_TRUE, _FALSE = {"1", "true", "yes"}, {"0", "false", "no", ""}


class BadSetting(SystemExit):
    """A configuration value is missing or wrong; ends the process with a sentence."""


def text(name: str, default: str | None = None) -> str:
    """Return variable `name`, or what the file named by `name`_FILE holds.

    Raises BadSetting when there is neither and no default.
    """
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            message = f"{name}_FILE names {path}, which cannot be read: {error.strerror}."
            raise BadSetting(message) from error
    value = os.environ.get(name, default)
    if value is None:
        raise BadSetting(f"{name} is not set. Set it, or set {name}_FILE to a file that holds it.")
    return value


def secret(name: str) -> str:
    """Return a value that has no default. Raises BadSetting when it is empty."""
    value = text(name)
    if not value:
        raise BadSetting(f"{name} is empty.")
    return value


def boolean(name: str, *, default: bool) -> bool:
    """Return a yes or no. Raises BadSetting on any other word."""
    value = text(name, str(default)).lower()
    if value not in _TRUE | _FALSE:
        raise BadSetting(f"{name} is {value!r}; it takes true or false.")
    return value in _TRUE


def integer(name: str, default: int, *, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`. Raises BadSetting outside it."""
    value = text(name, str(default))
    if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
        raise BadSetting(f"{name} is {value!r}; it takes a whole number from {low} to {high}.")
    return int(value)


def words(name: str, default: str) -> list[str]:
    """Return a list of words separated by commas or white space."""
    return text(name, default).replace(",", " ").split()


def directories(name: str, default: str) -> list[str]:
    """Return a list of directories. Raises BadSetting on a path that is not absolute and plain."""
    found = words(name, default)
    for path in found:
        if not _is_plain(path):
            message = f"{name} holds {path!r}; it takes absolute paths without . and .. in them."
            raise BadSetting(message)
    return found


def _is_plain(path: str) -> bool:
    """Say whether a path is absolute, has one spelling and is not the root itself."""
    # POSIX lets two leading slashes mean something else, and normpath leaves them.
    is_absolute = path.startswith("/") and not path.startswith("//")
    return is_absolute and path == os.path.normpath(path) and path != "/"


def networks(name: str, default: str) -> list[str]:
    """Return a list of networks in CIDR form. Raises BadSetting on a word that is none."""
    found = words(name, default)
    for word in found:
        try:
            ip_network(word)
        except ValueError as error:
            message = f"{name} holds {word!r}, which is no network: {error}."
            raise BadSetting(message) from error
    return found


def queue_server(address: str) -> str:
    """Return the queue server's address. Raises BadSetting when anybody could read the queue.

    Beyond this machine it takes a password and TLS; a socket or loopback does without TLS.
    """
    parts = urlsplit(address)
    if parts.scheme not in {"redis", "rediss", "redis+socket"}:
        raise BadSetting(
            "KEYVAULT_BROKER_URL must begin with redis://, rediss:// or redis+socket://."
        )
    is_here = parts.scheme == "redis+socket" or parts.hostname in _LOOPBACK
    if not is_here and not parts.password:
        raise BadSetting(
            "KEYVAULT_BROKER_URL names a queue server on another host without a password. "
            "Set one there, and write rediss://:password@host:6379/0."
        )
    if not is_here and parts.scheme != "rediss":
        raise BadSetting(
            "KEYVAULT_BROKER_URL names a queue server on another host without TLS. "
            "Write rediss:// instead of redis://."
        )
    return address


def database(name: str) -> dict[str, Any]:
    """Return Django's settings for a `postgresql://user:password@host:port/name` address.

    A unix socket directory goes into the query: `postgresql://user@/name?host=/run/pg`.
    Raises BadSetting for any other engine: row locks are what approvals rest on.
    """
    address = urlsplit(secret(name))
    if address.scheme not in {"postgres", "postgresql"}:
        raise BadSetting(f"{name} must begin with postgresql://; keyvault runs on PostgreSQL only.")
    options = dict(parse_qsl(address.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(address.path.lstrip("/")),
        "USER": unquote(address.username or ""),
        "PASSWORD": unquote(address.password or ""),
        "HOST": options.pop("host", address.hostname or ""),
        "PORT": options.pop("port", str(address.port or "")),
        "OPTIONS": {"connect_timeout": 5, **options},
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
    }
