"""The generic HTTP provider: sends the declared requests and reads their answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from keyvault.crypto.secret import Secret
from keyvault.plugins.json_api import header_text, refusal
from keyvault.plugins.values import Reply
from keyvault.providers.base import (
    JSON,
    Ambiguous,
    Attempt,
    Capabilities,
    Context,
    Denied,
    Field,
    Issued,
    Misconfigured,
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
from keyvault.providers.generic_http import schema
from keyvault.providers.generic_http.declaration import Declaration, Listing
from keyvault.providers.generic_http.requests import base_of

_TAG = re.compile(r"kv-[0-9a-f]+-[0-9]+")
_PLACE = re.compile(r"([0-9]{1,6}):(.*)", re.DOTALL)
_MOST_PAGES, _LONGEST_ID = 200, 200
_FAULTS_FROM = 400
_MENDS = {
    Denied.code: "Enter a credential that may list, create and end keys there.",
    Misconfigured.code: "Correct the requests; docs/providers/generic-http.md has their form.",
    Transient.code: "Wait a little and check again.",
}


class GenericHttp:
    """Issues credentials of an API that an administrator describes by four requests.

    Nothing of a declaration is executed: its gaps are filled with named values,
    and the answers are read by plain paths. After a lost answer the credential is
    found by its name, ended and made anew.
    """

    kind: ClassVar[str] = "http"
    title: ClassVar[str] = "Declared HTTP API"
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = schema.OPTIONS

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return credentials side by side, found again by their names."""
        del ctx
        return Capabilities(Shape.MULTI, Recovery.TAGGED)

    def check(self, ctx: Context) -> list[Problem]:
        """Check the declaration and list the first page."""
        try:
            _Api.of(ctx).page(None)
        except ProviderError as error:
            return [Problem(error.sentence, _MENDS.get(error.code, "Correct the Connection."))]
        return []

    def foresee(self, ctx: Context) -> Sequence[str]:
        """Check a key's parameters while it is asked for; no account is known beforehand."""
        _Api.of(ctx).parameters()
        return ()

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Check the parameters and that the list is there to find the key by. Raises Misconfigured."""
        del current
        api = _Api.of(ctx)
        api.parameters()
        api.page(None)
        return Attempt(op_id, number, tag_of(op_id, number))

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Send the create request and read the id and the value from its answer."""
        api = _Api.of(ctx)
        declared = api.declared.create
        values = {**api.parameters(), "admin": api.admin, "tag": attempt.tag}
        reply = declared.request.send(ctx, api.base, values)
        _require_done(reply, declared.ok)
        answer = _document(reply)
        remote_id, value = declared.id.text(answer), declared.value.text(answer)
        if not remote_id or not value or len(remote_id) > _LONGEST_ID:
            raise Ambiguous("The answer has no id or no value where the requests say.")
        if value in remote_id:
            # Ids stand in clear in the database, in addresses and in the ledger.
            raise Ambiguous("The id in the answer holds the value itself, and ids are no secret.")
        return Issued(
            remote_id,
            tag=attempt.tag,
            public={"base_url": api.base},
            material={"value": Secret.of(value)},
        )

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the enabled credentials that bear the attempt's name."""
        listed = _Api.of(ctx).every()
        return [key for key in listed if key.tag == attempt.tag and key.is_enabled is not False]

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """Send the declared trial with the credential; only declared statuses are a verdict."""
        try:
            api = _Api.of(ctx)
            declared = api.declared.validate
            values = {"value": _text(issued.material.get("value")), "id": issued.remote_id}
            reply = declared.request.send(ctx, api.base, values)
        except ProviderError:
            return Validation(Verdict.UNKNOWN, "", "The API gave no clear answer.")
        said = f"The API answered {reply.status}."
        if reply.status in declared.valid:
            principal = declared.principal.text(_document(reply)) if declared.principal else ""
            is_fit = values["value"] not in principal and len(principal) <= _LONGEST_ID
            return Validation(Verdict.VALID, principal if is_fit else "", said)
        is_refused = reply.status in declared.invalid
        return Validation(Verdict.INVALID if is_refused else Verdict.UNKNOWN, "", said)

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Send the revoke request for this id."""
        del kill_sessions
        api = _Api.of(ctx)
        declared = api.declared.revoke
        reply = declared.request.send(ctx, api.base, {"admin": api.admin, "id": key.remote_id})
        if reply.status in declared.gone:
            # A wrong address answers the same: only where the list is does it mean an end.
            api.page(None)
            return
        _require_done(reply, declared.ok)

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return a page of the declared list."""
        return _Api.of(ctx).page(cursor)


@dataclass(frozen=True, slots=True)
class _Api:
    """A declared API together with what one call knows of it."""

    ctx: Context
    base: str
    declared: Declaration

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """Read the Connection's settings. Raises Misconfigured."""
        return cls(ctx, base_of(ctx), Declaration.parse(str(ctx.config.get("requests") or "")))

    @property
    def admin(self) -> str:
        """The Connection's credential. Raises Misconfigured where there is none."""
        return header_text(self.ctx.admin.get("admin"), "admin credential")

    def parameters(self) -> dict[str, str]:
        """Return what a key chose, by the declared names. Raises Misconfigured."""
        found: dict[str, str] = {}
        for line in str(self.ctx.options.get("parameters") or "").splitlines():
            name, is_there, value = line.partition("=")
            if not line.strip():
                continue
            if not is_there or name.strip() in found or not value.strip().isprintable():
                raise Misconfigured("Give each parameter once, in a line such as: role = reader.")
            found[name.strip()] = value.strip()
        wanted = self.declared.parameters
        if set(found) != set(wanted) or not all(found.values()):
            names = ", ".join(wanted) or "none"
            raise Misconfigured(f"A key here needs exactly these parameters: {names}.")
        return found

    def page(self, cursor: str | None) -> Page[RemoteKey]:
        """Return one page of the list. Raises Transient on an answer that makes no sense."""
        listing = self.declared.list
        sent = self._place(listing, cursor)
        answer = self._read(listing, sent)
        items = listing.items.pick(answer)
        if not isinstance(items, list):
            raise Transient("The answer has no list where the requests say.")
        keys = tuple(_key(listing, item) for item in items)
        return Page(keys, _next(listing, answer, keys, cursor))

    def every(self) -> Iterator[RemoteKey]:
        """Yield all listed credentials, page by page. Raises Transient."""
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = self.page(cursor)
            yield from page.items
            if page.cursor is None:
                return
            cursor = page.cursor
        raise Transient("The list does not end.")

    def _place(self, listing: Listing, cursor: str | None) -> dict[str, str]:
        if listing.counts_pages:
            found = _PLACE.fullmatch(cursor or "1:")
            return {"page": found[1] if found else "1", "admin": self.admin}
        return {"cursor": cursor or "", "admin": self.admin}

    def _read(self, listing: Listing, values: Mapping[str, str]) -> JSON:
        try:
            reply = listing.request.send(self.ctx, self.base, values)
        except Ambiguous:
            # Some APIs list by POST, which changes nothing for all that.
            raise Transient("The API gave no answer; nothing was changed.") from None
        if reply.status not in listing.ok:
            raise refusal(reply, is_change=False)
        return _document(reply)


def _next(
    listing: Listing, answer: JSON, keys: Sequence[RemoteKey], cursor: str | None
) -> str | None:
    """Return the cursor of the next page, None on the last. Raises Transient on one that repeats."""
    if listing.counts_pages:
        if not keys:
            return None
        found = _PLACE.fullmatch(cursor or "1:")
        number, before = (int(found[1]), found[2]) if found else (1, "")
        following = f"{number + 1}:{keys[0].remote_id}"
        is_stuck = before == keys[0].remote_id
    else:
        following = listing.next.text(answer) if listing.next else ""
        is_stuck = bool(following) and following == cursor
    if is_stuck:
        raise Transient("The list gives the same page again.")
    return following or None


def _key(listing: Listing, item: JSON) -> RemoteKey:
    remote_id, name = listing.id.text(item), listing.name.text(item)
    if not remote_id:
        raise Transient("A listed key has no id where the requests say.")
    enabled = listing.enabled.pick(item) if listing.enabled else True
    return RemoteKey(
        remote_id,
        tag=name if _TAG.fullmatch(name) else None,
        is_enabled=enabled if isinstance(enabled, bool) else None,
        hint=name[:120],
    )


def _require_done(reply: Reply, ok: frozenset[int]) -> None:
    """Raise unless a change is done. An answer that is no refusal leaves it open."""
    if reply.status in ok:
        return
    if reply.status < _FAULTS_FROM:
        raise Ambiguous(
            f"The API answered {reply.status} to a change, which may have taken effect."
        )
    raise refusal(reply, is_change=True)


def _document(reply: Reply) -> JSON:
    """Return the answer's JSON, or None for anything else."""
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def _text(secret: Secret | None) -> str:
    """Return a credential as text. Raises Misconfigured where there is none."""
    try:
        text = secret.reveal().decode() if secret is not None else ""
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise Misconfigured("The credential is missing or no text.")
    return text
