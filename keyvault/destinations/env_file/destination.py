"""The env file destination: what each call of the protocol does to the directory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from keyvault.destinations import mapping, stamps
from keyvault.destinations.base import (
    Conflict,
    Context,
    DestinationCapabilities,
    Field,
    Health,
    Misconfigured,
    Observed,
    Problem,
    ProviderError,
    Restart,
    State,
    Transient,
    Version,
)
from keyvault.destinations.env_file import formats, schema
from keyvault.destinations.env_file.directory import Directory, Found, opened

_FILE = re.compile(r"\.?[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_HEAD = "# keyvault "
_NOTE = "# Written by keyvault. An edit here stops the next rotation.\n"
_MODES = {"0600": 0o600, "0640": 0o640, "0400": 0o400, "0440": 0o440}


@dataclass(frozen=True, slots=True)
class EnvFile:
    """Writes the parts of a version as variables of a file that belongs to keyvault alone.

    `roots` are the directories of the setting KEYVAULT_ENV_FILE_ROOTS; the composition
    hands them over, and without any nothing can be written.
    """

    roots: tuple[str, ...] = ()

    kind: ClassVar[str] = "env_file"
    title: ClassVar[str] = "Env file on this host"
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = ()
    target_schema: ClassVar[Sequence[Field]] = schema.TARGET

    def capabilities(self, ctx: Context) -> DestinationCapabilities:
        """Return full reading, and a comparison that only keyvault's own lock protects."""
        del ctx
        return DestinationCapabilities(
            stages=True, cas=False, readback=True, needs_restart=Restart.CONSUMER
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Return what is wrong with the directory and, where one is given, the file."""
        mend = "See docs/destinations/env-file.md for what the directory needs."
        try:
            with opened(_directory(ctx), self.roots) as directory:
                problems = _problems(directory)
                if ctx.options:
                    _Place.of(ctx, directory).live()
                    _names(ctx), _mode(ctx)
        except ProviderError as error:
            return [Problem(error.sentence, mend)]
        return [Problem(sentence, mend) for sentence in problems]

    def observe(self, ctx: Context) -> Observed:
        """Return whose file is there, by its first line, and what lies beside it."""
        with self._place(ctx) as place:
            return place.observed()

    def stage(self, ctx: Context, version: Version) -> None:
        """Write the file under a hidden name beside the live one."""
        content = _content(ctx, version)
        with self._place(ctx) as place, place.directory.locked(ctx):
            place.put(place.staged_name(version.id), content, _mode(ctx))

    def promote(self, ctx: Context, version: Version, expect: str | None) -> Observed:
        """Replace the file in one step, unless it holds what is neither expected nor this version.

        Raises Conflict. Between the look and the step only keyvault's lock holds others off.
        """
        content, mode = _content(ctx, version), _mode(ctx)
        with self._place(ctx) as place, place.directory.locked(ctx):
            live = place.live()
            if live.owner != version.id and (live.owner != expect or live.is_foreign):
                raise Conflict(_why(live))
            place.put(place.name, content, mode)
            place.directory.discard(place.staged_name(version.id))
            return place.observed()

    def verify(self, ctx: Context, version: Version) -> Health:
        """Compare the file with the version, byte by byte, and its mode with the chosen one."""
        content = _content(ctx, version)
        try:
            with self._place(ctx) as place:
                live = place.live()
        except Transient as error:
            return Health(State.PENDING, error.sentence)
        if live.is_foreign:
            return Health(State.BAD, "Somebody else wrote the file.")
        if live.found is None or live.owner != version.id:
            return Health(State.PENDING, "The version is not in the file.")
        if live.found.content != content or live.found.mode != _mode(ctx):
            return Health(State.PENDING, "The file was written with other settings.")
        return Health(State.OK, "The file holds the version.")

    def cleanup(self, ctx: Context, keep: Sequence[str]) -> None:
        """Remove staged files, and drafts that a crash has left."""
        with self._place(ctx) as place, place.directory.locked(ctx):
            for version_id in place.staged():
                if version_id not in keep:
                    place.directory.discard(place.staged_name(version_id))
            place.directory.discard(place.draft)

    def remove(self, ctx: Context, expect: str) -> None:
        """Remove the file when it holds the version `expect`. Raises Conflict."""
        with self._place(ctx) as place, place.directory.locked(ctx):
            live = place.live()
            if live.found is None:
                return
            if live.owner != expect:
                raise Conflict(_why(live))
            place.directory.discard(place.name)

    @contextmanager
    def _place(self, ctx: Context) -> Iterator[_Place]:
        ctx.remaining()
        with opened(_directory(ctx), self.roots) as directory:
            yield _Place.of(ctx, directory)


@dataclass(frozen=True, slots=True)
class _Live:
    """The file that consumers read: `owner` is the version in it, if it is ours and unedited."""

    found: Found | None
    owner: str | None

    @property
    def is_foreign(self) -> bool:
        return self.found is not None and self.owner is None


@dataclass(frozen=True, slots=True)
class _Place:
    """One file of an open directory, with the hidden names that belong to it."""

    directory: Directory
    name: str
    draft: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "draft", f".{self.name}.kv-draft")

    @classmethod
    def of(cls, ctx: Context, directory: Directory) -> _Place:
        name = str(ctx.options.get("file") or "")
        if not _FILE.fullmatch(name) or ".kv-" in name or name == "..":
            raise Misconfigured("Give the file a plain name, such as orders.env.")
        return cls(directory, name)

    def live(self) -> _Live:
        found = self.directory.read(self.name)
        return _Live(found, _owner(found.content) if found and found.content else None)

    def observed(self) -> Observed:
        live = self.live()
        return Observed(
            live.owner,
            is_foreign=live.is_foreign,
            staged=tuple(self.staged()),
            etag=live.found.mark if live.found else "",
        )

    def staged_name(self, version_id: str) -> str:
        return f".{self.name}.{version_id}.kv-staged"

    def staged(self) -> list[str]:
        # An id holds no dot, so that what is staged for app.env.local is not taken for ours.
        pattern = re.compile(re.escape(f".{self.name}.") + r"([A-Za-z0-9_-]+)\.kv-staged")
        return [found[1] for name in self.directory.names() if (found := pattern.fullmatch(name))]

    def put(self, name: str, content: bytes, mode: int) -> None:
        """Write a file, unless it is exactly so already."""
        found = self.directory.read(name)
        if found is None or (found.content, found.mode) != (content, mode):
            self.directory.put(name, content, mode=mode, draft=self.draft)


def _directory(ctx: Context) -> str:
    return str(ctx.config.get("directory") or "")


def _names(ctx: Context) -> dict[str, str]:
    return mapping.parse(str(ctx.options.get("variables") or "value=API_KEY"))


def _mode(ctx: Context) -> int:
    """Return the chosen mode. Raises Misconfigured for one that lets others read."""
    chosen = _MODES.get(str(ctx.options.get("mode") or "0600"))
    if chosen is None:
        raise Misconfigured(f"The mode is none of {', '.join(_MODES)}.")
    return chosen


def _content(ctx: Context, version: Version) -> bytes:
    """Return the whole file of a version: its stamp, then a line for each variable."""
    kind = str(ctx.options.get("format") or "dotenv")
    body = _NOTE + formats.render(mapping.shown(version, _names(ctx)), kind)
    return f"{_HEAD}{stamps.make(version.id, {'body': body})}\n{body}".encode()


def _owner(content: bytes) -> str | None:
    """Return the version that a file holds; None when it is not ours or was edited."""
    head, _, body = content.decode("utf-8", "replace").partition("\n")
    return (
        stamps.owner(head.removeprefix(_HEAD), {"body": body}) if head.startswith(_HEAD) else None
    )


def _problems(directory: Directory) -> list[str]:
    found = []
    if directory.is_open_to_all():
        found.append("Every user of this host may replace files in the directory.")
    if not directory.is_writable():
        found.append("keyvault's worker may not write into the directory.")
    return found


def _why(live: _Live) -> str:
    if live.is_foreign:
        return "Somebody else wrote the file; it stays as it is."
    return "The file holds another version than the one that was expected."
