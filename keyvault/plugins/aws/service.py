"""One API of AWS: send signed requests, and read answers in XML or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from keyvault.plugins.aws.failures import failure
from keyvault.plugins.aws.signing import AccessKey, Scope, signed
from keyvault.plugins.errors import Ambiguous, Misconfigured, ProviderError, Transient
from keyvault.plugins.values import JSON, Reply

if TYPE_CHECKING:
    from keyvault.plugins.ports import Context

_OK = range(200, 300)
_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_JSON_1_1 = "application/x-amz-json-1.1"


@dataclass(frozen=True, slots=True)
class Service:
    """The API `name` at `url`, such as https://iam.amazonaws.com, and the key that signs for it."""

    ctx: Context
    key: AccessKey = field(repr=False)
    name: str
    region: str
    url: str

    def read_query(self, version: str, action: str, **params: str) -> ET.Element:
        """Ask by the Query protocol; return the element of the result.

        `version` is that of the API, as a date. Raises Denied, NotFound, Misconfigured, Transient.
        """
        return self._query(version, action, params, is_change=False)

    def change_query(self, version: str, action: str, **params: str) -> ET.Element:
        """Send one change by the Query protocol. Raises Ambiguous when it may have taken effect."""
        return self._query(version, action, params, is_change=True)

    def read_json(self, target: str, body: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Ask by the JSON protocol; `target` is such as secretsmanager.DescribeSecret."""
        return self._json(target, body, is_change=False)

    def change_json(self, target: str, body: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Send one change by the JSON protocol. Raises Ambiguous when it may have taken effect."""
        return self._json(target, body, is_change=True)

    def _query(
        self, version: str, action: str, params: Mapping[str, str], *, is_change: bool
    ) -> ET.Element:
        body = urlencode({"Action": action, "Version": version, **params}).encode()
        reply = self._send({"content-type": _FORM}, body, is_change=is_change)
        tree = _tree(reply)
        if reply.status not in _OK:
            right = f"{self.name}:{action}"
            raise failure(reply, _xml_code(tree), right, is_change=is_change)
        if tree is None:
            raise _unusable(is_change=is_change)
        # Some actions answer with their metadata alone.
        found = child(tree, f"{action}Result")
        return tree if found is None else found

    def _json(
        self, target: str, body: Mapping[str, JSON], *, is_change: bool
    ) -> Mapping[str, JSON]:
        headers = {"content-type": _JSON_1_1, "x-amz-target": target}
        reply = self._send(headers, json.dumps(body).encode(), is_change=is_change)
        found = _object(reply)
        if reply.status not in _OK:
            right = target.replace(".", ":")
            raise failure(reply, _json_code(reply, found), right, is_change=is_change)
        if found is None:
            raise _unusable(is_change=is_change)
        return found

    def _send(self, headers: Mapping[str, str], body: bytes, *, is_change: bool) -> Reply:
        """Send one POST. Every request of these protocols is one, also those that only read."""
        self.ctx.remaining()
        url = f"{self.url.strip().rstrip('/')}/"
        try:
            sent = signed(self.key, Scope(self.name, self.region), url, headers=headers, body=body)
        except ValueError:
            raise Misconfigured("The address of the endpoint cannot be read.") from None
        try:
            return self.ctx.http.request("POST", url, headers=sent, body=body)
        except Ambiguous as error:
            if is_change:
                raise
            raise Transient(error.sentence) from None


def child(element: ET.Element, name: str) -> ET.Element | None:
    """Return the first child of that name in any namespace, or None."""
    return next((found for found in element if _local(found) == name), None)


def children(element: ET.Element, name: str) -> Iterator[dict[str, str]]:
    """Yield each member of the list `name` as texts by field name."""
    for member in child(element, name) or ():
        yield {_local(part): part.text or "" for part in member}


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _tree(reply: Reply) -> ET.Element | None:
    """Read XML without a document type, so that no entity can be declared and grow."""
    if b"<!" in reply.body:
        return None
    try:
        return ET.fromstring(reply.body)  # noqa: S314 - nothing is left that could expand.
    except (ET.ParseError, ValueError, LookupError):
        return None


def _object(reply: Reply) -> Mapping[str, JSON] | None:
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _xml_code(tree: ET.Element | None) -> str:
    """Return the code of the first error, which older services wrap in a list of them."""
    errors = (
        (found for found in tree.iter() if _local(found) == "Error") if tree is not None else ()
    )
    error = next(iter(errors), None)
    code = child(error, "Code") if error is not None else None
    return (code.text or "") if code is not None else ""


def _json_code(reply: Reply, found: Mapping[str, JSON] | None) -> str:
    """Return the code of an error: of `__type`, behind its namespace and `#` where it has one.

    What stands before the service, and refuses signatures, may answer in XML.
    """
    named = str((found or {}).get("__type", ""))
    return named.rpartition("#")[2] or _xml_code(_tree(reply))


def _unusable(*, is_change: bool) -> ProviderError:
    if is_change:
        return Ambiguous("AWS gave no usable answer to a change.")
    return Transient("AWS gave no usable answer; nothing was changed.")
