"""The context of one call: settings, the admin credential, one deadline and the way out."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyvault import outbound
from keyvault.plugins.errors import Ambiguous, Misconfigured, Transient
from keyvault.plugins.values import JSON, Reply

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret


@dataclass(frozen=True, slots=True)
class Call:
    """Implements `ports.Context` over the egress guard. Made anew for each call."""

    guard: outbound.Guard
    deadline_at: float
    config: Mapping[str, JSON] = field(default_factory=dict)
    options: Mapping[str, JSON] = field(default_factory=dict)
    admin: Mapping[str, Secret] = field(default_factory=dict, repr=False)

    @property
    def http(self) -> GuardedHttp:
        """The way out over HTTPS."""
        return GuardedHttp(self)

    def remaining(self) -> float:
        """Return the seconds left. Raises Transient when there are none."""
        left = self.deadline_at - time.monotonic()
        if left <= 0:
            raise Transient("The time for this call is over; nothing more was sent.")
        return left

    def dial(self, host: str, port: int) -> str:
        """Return the vetted address or socket directory. Raises Misconfigured, Transient."""
        try:
            return self.guard.dial(host, port, timeout_s=min(self.remaining(), outbound.TIMEOUT_S))
        except outbound.Refused as error:
            raise Misconfigured(str(error)) from None
        except outbound.Unreachable as error:
            raise Transient(str(error)) from None


def call(
    guard: outbound.Guard,
    *,
    timeout_s: float,
    config: Mapping[str, JSON],
    options: Mapping[str, JSON],
    admin: Mapping[str, Secret],
) -> Call:
    """Return a context that ends `timeout_s` seconds from now."""
    deadline_at = time.monotonic() + timeout_s
    return Call(guard, deadline_at, config=config, options=options, admin=admin)


@dataclass(frozen=True, slots=True)
class GuardedHttp:
    """Sends requests within a call's deadline, and speaks of failures as plug-ins do."""

    call: Call

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        ca: str = "",
    ) -> Reply:
        """Send one request. Raises Misconfigured, Transient, Ambiguous."""
        left = self.call.remaining()
        trust = _trust(ca)
        try:
            answer = outbound.fetch(
                self.call.guard,
                method,
                url,
                headers=headers,
                body=body,
                timeout_s=left,
                tls=lambda: trust,
            )
        except outbound.Refused as error:
            raise Misconfigured(str(error)) from None
        except outbound.Unreachable as error:
            raise Transient(str(error)) from None
        except outbound.Lost as error:
            raise Ambiguous(str(error)) from None
        return Reply(answer.status, answer.headers, answer.body)


def _trust(ca: str) -> ssl.SSLContext:
    """Return what to trust: one authority, or those of the system. Raises Misconfigured."""
    try:
        return ssl.create_default_context(cadata=ca or None)
    except (ssl.SSLError, ValueError):
        raise Misconfigured("The authority's certificate is not readable as PEM.") from None
