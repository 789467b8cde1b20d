"""The terms on which an outside issuer is trusted, and what is wrong with them (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from keyvault.outbound import Allowance, Guard, Refused, canonical

MOST_CHARS = 300
MOST_HOSTS = 10
# Issuers that have a kind of their own, so that its claims are demanded.
_KINDS = {
    "https://token.actions.githubusercontent.com": "github",
    "https://gitlab.com": "gitlab",
}
# Audiences under which tokens for other services travel: those services could use them here.
_SHARED = (
    "https://github.com/",
    "https://gitlab.com",
    "https://kubernetes.default.svc",
    "api://AzureADTokenExchange",
    "sts.amazonaws.com",
)
_LOOPBACK = tuple(map(ip_network, ("127.0.0.0/8", "::1/128")))


@dataclass(frozen=True, slots=True)
class Terms:
    """Whom we trust to vouch, for which audience, and where its keys are.

    An empty `jwks_url` means that the issuer's own discovery document names
    it. `allowed_hosts` are private addresses that this may reach, as
    `outbound.Allowance` reads them.
    """

    kind: str
    issuer: str
    audience: str
    jwks_url: str = ""
    allowed_hosts: tuple[str, ...] = ()

    def guard(self) -> Guard:
        """Return the way out to this issuer. Raises ValueError for a bad allowed host."""
        return Guard(tuple(Allowance.parse(text) for text in self.allowed_hosts))

    def problems(self) -> list[str]:
        """Return what is wrong, a sentence each; [] when nothing is."""
        found, plain = _host_problems(self.allowed_hosts)
        found += _url_problems("The issuer", self.issuer, plain)
        if self.jwks_url:
            found += _url_problems("The address of the keys", self.jwks_url, plain)
        kind = _KINDS.get(self.issuer.rstrip("/"), self.kind)
        if kind != self.kind:
            found.append(f"This issuer is of the kind {kind}, whose claims must be pinned.")
        return found + _audience_problems(self.audience)


def _url_problems(what: str, url: str, plain: list[Allowance]) -> list[str]:
    if len(url) > MOST_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        return [f"{what} must be a plain address of at most {MOST_CHARS} characters."]
    try:
        parts = urlsplit(url)
        host = canonical(parts.hostname or "")
        port = parts.port
    except (Refused, ValueError):
        return [f"{what} names no plain host."]
    found = []
    is_named = any(entry.port == port and _names(entry, host) for entry in plain)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_named):
        found.append(f"{what} must begin with https://.")
    if _has_extras(parts) or "*" in url:
        found.append(f"{what} must hold no user, query, fragment or wildcard.")
    return found


def _has_extras(parts: SplitResult) -> bool:
    return bool(parts.username is not None or parts.query or parts.fragment)


def _host_problems(hosts: tuple[str, ...]) -> tuple[list[str], list[Allowance]]:
    """Return what is wrong with allowed hosts, and those that plain http may reach."""
    found = [f"Allow at most {MOST_HOSTS} hosts."] if len(hosts) > MOST_HOSTS else []
    plain = []
    for text in hosts:
        try:
            entry = Allowance.parse(text)
        except ValueError as error:
            found.append(str(error))
            continue
        if entry.is_http and not _is_loopback(entry):
            found.append(f"{text} must not be plain http: only loopback may.")
        elif entry.is_http:
            plain.append(entry)
    return found, plain


def _names(entry: Allowance, host: str) -> bool:
    if isinstance(entry.target, str):
        return entry.target == host
    try:
        return ip_address(host) in entry.target
    except ValueError:
        return False


def _is_loopback(entry: Allowance) -> bool:
    if isinstance(entry.target, str):
        return entry.target == "localhost"
    return any(
        entry.target.version == net.version and entry.target.subnet_of(net)  # type: ignore[arg-type]  # The versions agree.
        for net in _LOOPBACK
    )


def _audience_problems(audience: str) -> list[str]:
    is_plain = audience.isprintable() and audience == audience.strip()
    if not audience or not is_plain or len(audience) > MOST_CHARS or "*" in audience:
        return [f"The audience must be plain text of at most {MOST_CHARS} characters, in full."]
    if audience.startswith(_SHARED):
        return ["Other services get tokens with this audience too. Use this console's address."]
    return []
