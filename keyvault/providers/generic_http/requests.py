"""One declared request: checked when it is read, and afterwards only filled and sent."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode

from keyvault.plugins.json_api import segment
from keyvault.plugins.values import Reply
from keyvault.providers.base import Context, Misconfigured
from keyvault.providers.generic_http.entries import Entry
from keyvault.providers.generic_http.templates import Body, Template

# What may never stand in an address: addresses are logged by servers, proxies and clients.
SECRETS = frozenset({"admin", "value"})
MEMBERS = ("method", "path", "query", "headers", "body")
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@%{}-]+(?:/(?!/)|$))*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_HEADER_TEXT = re.compile(r"[ -~]*")
# These belong to the connection itself; a second one would let two readers see two requests.
_FIXED_HEADERS = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "accept-encoding",
        "te",
        "upgrade",
    }
)
_TELLING = re.compile(r"authorization|cookie|api[-_]?key|token|secret|password", re.IGNORECASE)
_DOTS = frozenset({"", ".", ".."})


@dataclass(frozen=True, slots=True)
class Request:
    """A request with gaps."""

    method: str
    path: Template
    query: Mapping[str, Template]
    headers: Mapping[str, Template]
    body: Body | None

    @classmethod
    def parse(cls, entry: Entry, *, methods: Collection[str], variables: Collection[str]) -> Self:
        """Read a request that may use `variables`, secret ones in headers and body only.

        The first of `methods` is the default. Raises Misconfigured.
        """
        method = entry.word("method", tuple(methods), next(iter(methods)))
        open_ones = frozenset(variables) - SECRETS
        path = entry.get("path")
        if not isinstance(path, str) or not _PATH.fullmatch(path) or _has_dots(path):
            raise Misconfigured(
                f"{entry.at('path')} must begin with / and be a plain path; what follows a ? "
                "belongs into query."
            )
        headers = entry.entry("headers").members
        if len({name.lower() for name in headers}) != len(headers):
            raise Misconfigured(f"{entry.at('headers')} has one header twice.")
        body = entry.get("body")
        if body is not None and method in {"GET", "DELETE"}:
            raise Misconfigured(f"{entry.at('body')} has no place in a {method} request.")
        return cls(
            method,
            Template.parse(path, entry.at("path"), open_ones),
            {
                name: _query(text, entry.at(f"query.{name}"), name, open_ones)
                for name, text in entry.entry("query").members.items()
            },
            {
                name: _header(text, entry.at(f"headers.{name}"), name, variables)
                for name, text in headers.items()
            },
            None if body is None else Body.parse(body, entry.at("body"), variables),
        )

    @property
    def variables(self) -> frozenset[str]:
        """The names of all gaps."""
        texts = (self.path, *self.query.values(), *self.headers.values())
        named = frozenset(name for text in texts for name in text.variables)
        return named | (self.body.variables if self.body else frozenset())

    def send(self, ctx: Context, base: str, values: Mapping[str, str]) -> Reply:
        """Fill the gaps and send it.

        A query entry whose gap has no value is left out. Raises Misconfigured on values
        that fit into no header or path, Transient, and Ambiguous.
        """
        query = {
            name: text.fill(values)
            for name, text in self.query.items()
            if all(values.get(gap) for gap in text.variables)
        }
        url = base + self.path.fill(values, quoted=_segment)
        if query:
            url += f"?{urlencode(query)}"
        headers = {
            name.lower(): _line(name, text.fill(values)) for name, text in self.headers.items()
        }
        headers.setdefault("user-agent", "keyvault")
        body = None
        if self.body is not None:
            body = json.dumps(self.body.fill(values)).encode()
            headers.setdefault("content-type", "application/json")
        ctx.remaining()
        return ctx.http.request(self.method, url, headers=headers, body=body)


def base_of(ctx: Context) -> str:
    """Return the address that every path is appended to. Raises Misconfigured."""
    base = str(ctx.config.get("url") or "").strip().rstrip("/")
    if not base.startswith(("https://", "http://")) or set("?#@\\ ") & set(base):
        raise Misconfigured("The API address must be such as https://api.example.com/v1.")
    return base


def _query(text: object, where: str, name: str, allowed: Collection[str]) -> Template:
    parsed = Template.parse(text, where, allowed)
    _refuse_literal_secret(parsed, where, name)
    return parsed


def _header(text: object, where: str, name: str, allowed: Collection[str]) -> Template:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _FIXED_HEADERS:
        raise Misconfigured(f"{where} is no header that a request may set.")
    if not isinstance(text, str) or not _HEADER_TEXT.fullmatch(text):
        raise Misconfigured(f"{where} must be one line of plain characters.")
    parsed = Template.parse(text, where, allowed)
    _refuse_literal_secret(parsed, where, name)
    return parsed


def _refuse_literal_secret(parsed: Template, where: str, name: str) -> None:
    """Everybody who may see the Connection reads its requests; the credential is kept apart."""
    if _TELLING.search(name) and not parsed.variables:
        raise Misconfigured(
            f"{where} looks like a credential written out. Enter it as the Connection's admin "
            "credential and write {admin} here."
        )


def _has_dots(path: str) -> bool:
    return not _DOTS.isdisjoint(path.rstrip("/").split("/")[1:])


def _segment(value: str) -> str:
    """Return a value as one segment, and refuse what a server would read as another path."""
    if value in _DOTS:
        raise Misconfigured("A value that belongs into a path is empty or only dots.")
    return segment(value)


def _line(name: str, text: str) -> str:
    """Return a header's text. An encoder's own error would carry the value, so that we look first."""
    if not _HEADER_TEXT.fullmatch(text):
        raise Misconfigured(f"What belongs into the header {name} does not fit into one.")
    return text
