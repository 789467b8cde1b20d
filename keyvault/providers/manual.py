"""Credentials that a person makes and ends by hand, under the same approvals and ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from keyvault.providers.base import (
    Attempt,
    Capabilities,
    Context,
    Field,
    Issued,
    Misconfigured,
    Page,
    Problem,
    Recovery,
    RemoteKey,
    Shape,
    Unsupported,
    Validation,
    Verdict,
    tag_of,
)

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret

MAX_VALUE_BYTES = 65_536


class Manual:
    """A provider without a program: it says what to do and takes the pasted value."""

    kind: ClassVar[str] = "manual"
    title: ClassVar[str] = "By hand"
    value_field: ClassVar[str] = "value"
    takes_listed: ClassVar[bool] = False
    config_schema: ClassVar[Sequence[Field]] = (
        Field(
            "where",
            "Where",
            help="The vendor's page or the person that issues the credential.",
            names_server=True,
        ),
        Field(
            "create_steps",
            "How to create it",
            kind="longtext",
            required=False,
            help="One step a line, shown to whoever makes a credential here.",
        ),
        Field(
            "revoke_steps",
            "How to revoke it",
            kind="longtext",
            required=False,
            help="One step a line, shown to whoever ends a credential here.",
        ),
    )
    material_schema: ClassVar[Sequence[Field]] = ()
    options_schema: ClassVar[Sequence[Field]] = ()
    value_schema: ClassVar[Sequence[Field]] = (
        Field("value", "Value", kind="secret", help="Paste the credential exactly as issued."),
        Field("reference", "Reference", required=False, help="The vendor's id of it; no secret."),
    )

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return that everything is done by a person."""
        del ctx
        return Capabilities(Shape.MANUAL, Recovery.NONE)

    def check(self, ctx: Context) -> list[Problem]:
        """Return a problem when nobody could tell where to go."""
        if str(ctx.config.get("where", "")).strip():
            return []
        return [Problem("It is not said where the credential comes from.", "Fill in “Where”.")]

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Plan one intake."""
        del ctx, current
        return Attempt(op_id, number, tag_of(op_id, number))

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Raise Unsupported: a person creates it, and `adopt` takes it."""
        del attempt
        raise Unsupported(f"A person creates this credential at {self._where(ctx)}.")

    def adopt(self, ctx: Context, attempt: Attempt, material: Mapping[str, Secret]) -> Issued:
        """Take the pasted value. Raises Misconfigured on an empty or oversized one."""
        value = material.get("value")
        size = len(value.reveal()) if value is not None else 0
        if value is None or not 0 < size <= MAX_VALUE_BYTES:
            raise Misconfigured(f"The value must have from 1 to {MAX_VALUE_BYTES} bytes.")
        public = {"where": self._where(ctx)}
        return Issued(attempt.tag, tag=attempt.tag, public=public, material={"value": value})

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return nothing: only a person can look."""
        del ctx, attempt
        return []

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """Return UNKNOWN: no program can try the value."""
        del issued
        return Validation(
            Verdict.UNKNOWN, detail=f"Only a person can try it at {self._where(ctx)}."
        )

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Raise Unsupported: a person revokes it and confirms that it is done."""
        del key, kill_sessions
        raise Unsupported(f"A person revokes this credential at {self._where(ctx)}.")

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return an empty page: there is nothing to list by program."""
        del ctx, cursor
        return Page(())

    def instructions(self, ctx: Context, act: str) -> Sequence[str]:
        """Return the steps of "create" or "revoke", the Connection's own where it has some."""
        own = str(ctx.config.get(f"{act}_steps", "")).splitlines()
        steps = tuple(line.strip() for line in own if line.strip())
        if steps:
            return steps
        where = self._where(ctx)
        if act == "create":
            return (f"Create the credential at {where}.", "Paste its value here.")
        return (f"Revoke the credential at {where}.", "Confirm here that it no longer works.")

    def _where(self, ctx: Context) -> str:
        return str(ctx.config.get("where", "")).strip() or "the vendor"
