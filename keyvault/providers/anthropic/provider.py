"""The Anthropic provider: what a person does, and what each other call does, request by request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from keyvault.crypto.secret import Secret
from keyvault.plugins.json_api import NotAccepted, header_text
from keyvault.providers.anthropic import schema
from keyvault.providers.anthropic.organization import ID, Listed, Organization, api
from keyvault.providers.base import (
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

_ACTIVE, _INACTIVE, _ARCHIVED = "active", "inactive", "archived"
# A key of these never works again, whatever is asked.
_ENDED = (_ARCHIVED, "expired")
_CONSOLE = "the Claude Console, under Settings, API keys"
_MENDS = {
    Denied.code: "Enter an Admin API key of the organisation.",
    Misconfigured.code: "Correct the Connection, or have the address approved on its allow-list.",
    Transient.code: "Wait a little and check again.",
}


class Anthropic:
    """Takes over API keys that a person makes, since the vendor has no call that makes one.

    The person names the key by its attempt, so that it is found at the vendor
    whether or not its value ever arrives here.
    """

    kind: ClassVar[str] = "anthropic"
    title: ClassVar[str] = "Anthropic API key"
    verified_by: ClassVar[str] = "fake"
    value_field: ClassVar[str] = "api_key"
    takes_listed: ClassVar[bool] = True
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = ()
    value_schema: ClassVar[Sequence[Field]] = schema.VALUE

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return that a person creates, and that everything else is called."""
        del ctx
        return Capabilities(
            Shape.MANUAL, Recovery.NONE, only_creation_by_hand=True, can_suspend=True
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Read one key of the list, which needs the right to read keys."""
        try:
            Organization.of(ctx).page(None, limit=1)
        except ProviderError as error:
            return [Problem(error.sentence, _MENDS.get(error.code, "Correct the Connection."))]
        return []

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Plan one intake, once the list can be read: nobody makes a key that cannot be taken."""
        del current
        Organization.of(ctx).page(None, limit=1)
        return Attempt(op_id, number, tag_of(op_id, number))

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Raise Unsupported: a person creates the key, and `adopt` takes it."""
        del ctx, attempt
        raise Unsupported(f"A person creates this key in {_CONSOLE}.")

    def adopt(self, ctx: Context, attempt: Attempt, material: Mapping[str, Secret]) -> Issued:
        """Take the pasted key once it is found by its name, fits its hint, and is not refused.

        A key that nobody named so could be one that others use: revoking it later
        would stop them. Raises Misconfigured with the mend, Transient, Denied.
        """
        pasted = material.get("api_key")
        value = Secret(pasted.reveal().strip()) if pasted is not None else None
        text = header_text(value, "key")
        listed = _named(Organization.of(ctx), attempt.tag)
        if not listed.fits(text):
            raise Misconfigured(
                f"The value is not that of the key {attempt.tag}, which is shown there as "
                f"{listed.key.hint or 'nothing'}. Paste the value of that key."
            )
        issued = Issued(
            listed.key.remote_id,
            tag=attempt.tag,
            public={"base_url": api(ctx, text).base},
            expires_at=listed.expires_at,
            material={"api_key": Secret.of(text)},
        )
        if self.validate(ctx, issued).verdict is Verdict.INVALID:
            raise Misconfigured("The API does not accept this value. Paste it exactly as shown.")
        return issued

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the active keys that bear the attempt's name."""
        return [entry.key for entry in _active(Organization.of(ctx), attempt.tag)]

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """List one model with the key, which costs nothing."""
        name = issued.tag or ""
        try:
            key = header_text(issued.material.get("api_key"), "key")
            api(ctx, key).read("/v1/models", {"limit": 1})
        except NotAccepted:
            return Validation(Verdict.INVALID, name, "The API does not accept the key.")
        except ProviderError:
            return Validation(Verdict.UNKNOWN, name, "The API gave no clear answer.")
        return Validation(Verdict.VALID, name, "Listed a model.")

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Archive the key, which nothing undoes."""
        del kill_sessions
        organization = Organization.of(ctx)
        try:
            if _status(organization, key) not in _ENDED:
                organization.set_status(key.remote_id, _ARCHIVED)
        except NotFound:
            return

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return a page of the keys that have not ended; a page may have none."""
        found = Organization.of(ctx).page(cursor)
        alive = tuple(entry.key for entry in found.items if entry.status not in _ENDED)
        return Page(alive, found.cursor)

    def suspend(self, ctx: Context, key: RemoteKey) -> None:
        """Refuse new uses. Raises NotFound."""
        self._switch(ctx, key, _INACTIVE)

    def resume(self, ctx: Context, key: RemoteKey) -> None:
        """Take the key again. Raises NotFound when it has ended meanwhile."""
        self._switch(ctx, key, _ACTIVE)

    def _switch(self, ctx: Context, key: RemoteKey, status: str) -> None:
        organization = Organization.of(ctx)
        found = _status(organization, key)
        if found in _ENDED:
            raise NotFound(f"{key.remote_id} has ended ({found}).")
        if found != status:
            organization.set_status(key.remote_id, status)

    def instructions(self, ctx: Context, act: str) -> Sequence[str]:
        """Return the steps of "create" or "revoke" as sentences."""
        if act != "create":
            return (f"Delete the key in {_CONSOLE}.", "Confirm here that it no longer works.")
        workspace = str(ctx.config.get("workspace") or "")
        where = f" in the workspace {workspace}" if workspace else ""
        return (
            f"Create a key{where} in {_CONSOLE}, under exactly the name that stands below.",
            "Paste its value here; the Console shows it once.",
        )


def _status(organization: Organization, key: RemoteKey) -> str:
    """Return what the vendor says of a key now. Raises NotFound, also for ids it cannot have."""
    if not ID.fullmatch(key.remote_id):
        raise NotFound("The id is none of this vendor's.")
    return organization.key(key.remote_id).status


def _active(organization: Organization, tag: str) -> list[Listed]:
    return [
        entry
        for entry in organization.every_key()
        if entry.key.tag == tag and entry.status == _ACTIVE
    ]


def _named(organization: Organization, tag: str) -> Listed:
    """Return the one active key of this name. Raises Misconfigured."""
    found = _active(organization, tag)
    if len(found) != 1:
        seen = "No active key has" if not found else "Several active keys have"
        raise Misconfigured(f"{seen} the name {tag} there. Name the new key so, and only that one.")
    return found[0]
