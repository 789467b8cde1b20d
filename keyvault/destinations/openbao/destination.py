"""The OpenBao destination: what each call of the protocol does to the engine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from keyvault.destinations import mapping
from keyvault.destinations.base import (
    Conflict,
    Context,
    Denied,
    DestinationCapabilities,
    Field,
    Health,
    Misconfigured,
    Observed,
    Problem,
    ProviderError,
    State,
    Transient,
    Version,
)
from keyvault.destinations.openbao import contents, schema
from keyvault.destinations.openbao.contents import Held
from keyvault.destinations.openbao.engine import Engine, Entry, quoted

_FIELD = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_PENDING = "-pending"
_MEND = "See docs/destinations/openbao.md for the rights that the token needs."


class OpenBao:
    """Writes the parts of a version as fields of one secret, and keeps the fields of others."""

    kind: ClassVar[str] = "openbao"
    title: ClassVar[str] = "OpenBao or Vault secret"
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    target_schema: ClassVar[Sequence[Field]] = schema.TARGET

    def capabilities(self, ctx: Context) -> DestinationCapabilities:
        """Return full reading and the engine's own comparison."""
        del ctx
        return DestinationCapabilities(stages=True, cas=True, readback=True)

    def check(self, ctx: Context) -> list[Problem]:
        """Return what is wrong with the mount and, where a path is given, the token's rights."""
        try:
            engine = Engine.of(ctx)
            kind = engine.kind()
            if kind != ("kv", "2"):
                return [Problem("The mount is no KV engine of version 2.", _MEND)]
            if not ctx.options:
                return []
            target = _Target.of(ctx)
            target.live(engine)
            return _missing_rights(engine, target.path)
        except ProviderError as error:
            return [Problem(error.sentence, _MEND)]

    def observe(self, ctx: Context) -> Observed:
        """Return whose fields the secret holds, and which version lies at the pending path."""
        return _Target.of(ctx).observed(Engine.of(ctx))

    def stage(self, ctx: Context, version: Version) -> None:
        """Write the version at the pending path. Raises Conflict when that is somebody else's."""
        target, engine = _Target.of(ctx), Engine.of(ctx)
        data = contents.data_of(version, target.names)
        pending = engine.read(target.pending)
        if pending.is_there and contents.held(pending.data, target.names.values()).owner is None:
            raise Conflict(f"Somebody else's secret lies at {target.pending}.")
        if pending.data != data:
            engine.write(target.pending, data, pending)

    def promote(self, ctx: Context, version: Version, expect: str | None) -> Observed:
        """Write our fields, if the engine's newest version is still the one that was judged."""
        target, engine = _Target.of(ctx), Engine.of(ctx)
        data = contents.data_of(version, target.names)
        entry, held = target.live(engine)
        if held.is_foreign or held.owner not in {expect, version.id}:
            raise Conflict(_why(held))
        if not data.items() <= entry.data.items() or held.fields != data.keys() - {contents.STAMP}:
            if entry.is_there:
                engine.merge(target.path, contents.change(held, data), entry)
            else:
                engine.write(target.path, data, entry)
        return target.observed(engine)

    def verify(self, ctx: Context, version: Version) -> Health:
        """Compare our fields with the version."""
        target = _Target.of(ctx)
        data = contents.data_of(version, target.names)
        try:
            entry, held = target.live(Engine.of(ctx))
        except Transient as error:
            return Health(State.PENDING, error.sentence)
        if held.is_foreign:
            return Health(State.BAD, "Somebody else wrote fields of ours.")
        if held.owner != version.id:
            return Health(State.PENDING, "The secret does not hold the version.")
        if not data.items() <= entry.data.items():
            return Health(State.PENDING, "The secret was written with other settings.")
        return Health(State.OK, "The secret holds the version.")

    def cleanup(self, ctx: Context, keep: Sequence[str]) -> None:
        """Destroy the secret at the pending path, if it is ours and not to be kept."""
        target, engine = _Target.of(ctx), Engine.of(ctx)
        staged = target.staged(engine)
        if staged is not None and staged not in keep:
            engine.forget(target.pending)

    def remove(self, ctx: Context, expect: str) -> None:
        """Take our fields away and leave those of others. Raises Conflict."""
        target, engine = _Target.of(ctx), Engine.of(ctx)
        entry, held = target.live(engine)
        if held.owner is None and not held.is_foreign:
            return
        if held.is_foreign or held.owner != expect:
            raise Conflict(_why(held))
        engine.merge(target.path, contents.removal(held), entry)


@dataclass(frozen=True, slots=True)
class _Target:
    """One secret: its path and, by part, the names of our fields in it."""

    path: str
    names: dict[str, str]

    @classmethod
    def of(cls, ctx: Context) -> _Target:
        path = str(ctx.options.get("path") or "").strip().strip("/")
        names = mapping.parse(str(ctx.options.get("fields") or "value=value"), _FIELD)
        # Judged before `-pending` makes another last segment of it.
        quoted(path)
        if contents.STAMP in names.values():
            raise Misconfigured(f"Call no field {contents.STAMP}: this one is keyvault's own.")
        return cls(path, names)

    @property
    def pending(self) -> str:
        return self.path + _PENDING

    def live(self, engine: Engine) -> tuple[Entry, Held]:
        entry = engine.read(self.path)
        return entry, contents.held(entry.data, self.names.values())

    def staged(self, engine: Engine) -> str | None:
        return contents.held(engine.read(self.pending).data, self.names.values()).owner

    def observed(self, engine: Engine) -> Observed:
        entry, held = self.live(engine)
        staged = self.staged(engine)
        return Observed(
            None if held.is_foreign else held.owner,
            is_foreign=held.is_foreign,
            staged=(staged,) if staged else (),
            etag=str(entry.number),
        )


def _missing_rights(engine: Engine, path: str) -> list[Problem]:
    needed = {
        f"data/{path}": {"read", "create", "update", "patch"},
        f"data/{path}{_PENDING}": {"read", "create", "update"},
        f"metadata/{path}{_PENDING}": {"delete"},
    }
    try:
        rights = engine.rights(needed)
    except Denied:
        sentence = "The token may not ask for its own rights, so that nobody knows them before use."
        return [Problem(sentence, _MEND, is_fatal=False)]
    return [
        Problem(f"The token lacks {', '.join(sorted(missing))} on {name}.", _MEND)
        for name, wanted in needed.items()
        if "root" not in rights[name] and (missing := wanted - set(rights[name]))
    ]


def _why(held: Held) -> str:
    if held.is_foreign:
        return "Somebody else wrote fields of ours; they stay as they are."
    return "The secret holds another version than the one that was expected."
