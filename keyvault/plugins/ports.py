"""What a plug-in sees of the outside: one call's settings, secrets, deadline and ways out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from keyvault.plugins.values import JSON, Reply

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret


class Http(Protocol):
    """The guarded way out over HTTPS: no redirects, capped in time and size."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        ca: str = "",
    ) -> Reply:
        """Send one request. `ca` is the PEM of an authority to trust in place of the system's.

        Raises Misconfigured (the guard refuses the address, or the PEM is none),
        Transient (nothing was sent, or only a read was) and Ambiguous (a change
        lost its answer).
        """


class Context(Protocol):
    """Everything that one call of a plug-in may use.

    `config` describes the Connection, `options` the one key or target, `admin` holds the
    Connection's unsealed credential. `deadline_at` is on the monotonic clock.
    """

    @property
    def config(self) -> Mapping[str, JSON]:
        """The Connection's settings, by the names of `config_schema`."""

    @property
    def options(self) -> Mapping[str, JSON]:
        """The key's settings, by the names of `options_schema`."""

    @property
    def admin(self) -> Mapping[str, Secret]:
        """The Connection's credential, by the names of `material_schema`."""

    @property
    def http(self) -> Http:
        """The way out over HTTPS."""

    @property
    def deadline_at(self) -> float:
        """The time by which the call must have ended, on `time.monotonic`."""

    def remaining(self) -> float:
        """Return the seconds left. Raises Transient when there are none."""

    def dial(self, host: str, port: int) -> str:
        """Return the vetted IP address to connect to, or the allowed socket directory.

        Raises Misconfigured when the egress guard refuses, Transient when the
        name does not resolve.
        """
