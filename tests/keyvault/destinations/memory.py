"""A destination in memory that keeps every promise, and its bench: what the suite is tried on."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from keyvault import outbound
from keyvault.destinations import registry
from keyvault.destinations.base import (
    Ambiguous,
    Conflict,
    Context,
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
from keyvault.plugins.context import Call, call
from keyvault.plugins.loading import Registered

Value = tuple[str, bytes, bytes]  # The mark, the value that it marks, the value that is there.


@dataclass
class Place:
    """One value with what is staged beside it, and the fault of the moment."""

    live: Value | None = None
    staged: dict[str, bytes] = field(default_factory=dict)
    writes: int = 0
    fault: str = ""
    words: bytes = b""
    hits: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, ctx: Context) -> Value | None:
        ctx.remaining()
        if self.fault in {"down", "hang"}:
            self.hits += 1
            raise Transient("Out of reach.")
        return self.live

    def write(self, live: Value | None) -> None:
        if self.fault == "hostile":
            self.hits += 1
            raise OSError(self.words.decode())
        self._lose("request")
        self.live, self.writes = live, self.writes + 1
        self._lose("answer")

    def stage(self, version_id: str, value: bytes) -> None:
        self.staged[version_id] = value
        self._lose("answer")

    def _lose(self, what: str) -> None:
        if self.fault == what:
            self.hits += 1
            raise Ambiguous("No answer came.")


class Memory:
    """Keeps every promise; its heirs each break one."""

    kind, title = "memory", "Memory"
    config_schema = material_schema = target_schema = ()

    def __init__(self, place: Place) -> None:
        self.place = place

    def capabilities(self, _ctx: Context) -> DestinationCapabilities:
        return DestinationCapabilities(stages=True, cas=True, readback=True)

    def check(self, ctx: Context) -> list[Problem]:
        try:
            self.place.read(ctx)
        except ProviderError as error:
            return [Problem(error.sentence, "Wait.")]
        return []

    def owner(self, live: Value | None) -> str | None:
        return live[0] if live and live[1] == live[2] else None

    def observe(self, ctx: Context) -> Observed:
        live = self.place.read(ctx)
        owner = self.owner(live)
        is_foreign = live is not None and owner is None
        return Observed(owner, is_foreign=is_foreign, staged=tuple(self.place.staged))

    def stage(self, ctx: Context, version: Version) -> None:
        self.place.read(ctx)
        self.place.stage(version.id, value_of(version))

    def promote(self, ctx: Context, version: Version, expect: str | None) -> Observed:
        with self.place.lock:
            self.compare(self.observe(ctx), version, expect)
            if self.observe(ctx).live != version.id:
                self.write((version.id, value_of(version), value_of(version)))
            self.place.staged.pop(version.id, None)
        return self.observe(ctx)

    def compare(self, found: Observed, version: Version, expect: str | None) -> None:
        if found.is_foreign or found.live not in {expect, version.id}:
            raise Conflict("Something else is live.")

    def write(self, live: Value | None) -> None:
        try:
            self.place.write(live)
        except OSError:
            raise Misconfigured("The place refused.") from None

    def verify(self, ctx: Context, version: Version) -> Health:
        try:
            found = self.observe(ctx)
        except Transient as error:
            return Health(State.PENDING, error.sentence)
        if found.is_foreign:
            return Health(State.BAD, "Foreign.")
        return Health(State.OK if found.live == version.id else State.PENDING)

    def cleanup(self, ctx: Context, keep: Sequence[str]) -> None:
        self.place.read(ctx)
        for version_id in set(self.place.staged) - set(keep):
            del self.place.staged[version_id]

    def remove(self, ctx: Context, expect: str) -> None:
        found = self.observe(ctx)
        if found.live is None and not found.is_foreign:
            return
        if found.live != expect:
            raise Conflict("Something else is live.")
        self.write(None)


class Places:
    """An account with many places, each a `Place` that its target names."""

    kind, title = "places", "Places"
    config_schema = material_schema = ()
    target_schema = (Field("place", "Place"),)

    def __init__(self, **able) -> None:
        self.at: defaultdict[str, Place] = defaultdict(Place)
        self.able = able
        self.health: dict[str, Health] = {}

    def capabilities(self, _ctx: Context) -> DestinationCapabilities:
        return DestinationCapabilities(stages=True, cas=True, readback=True, **self.able)

    def check(self, ctx: Context) -> list[Problem]:
        return self._of(ctx).check(ctx) if ctx.options else []

    def verify(self, ctx: Context, version: Version) -> Health:
        found = self._of(ctx).verify(ctx, version)
        told = self.health.get(str(ctx.options["place"]))
        return told if told and found.state is State.OK else found

    def __getattr__(self, call: str):
        return lambda ctx, *rest: getattr(self._of(ctx), call)(ctx, *rest)

    def _of(self, ctx: Context) -> Memory:
        return Memory(self.at[str(ctx.options["place"])])


@contextmanager
def installed(made: Places) -> Iterator[Places]:
    """Have the product know a destination for as long as the block runs."""
    registry.kinds()
    before = dict(registry._registry._loaded)
    registry._registry._loaded[made.kind] = Registered(made, "tests", "1")
    try:
        yield made
    finally:
        registry._registry._loaded.clear()
        registry._registry._loaded.update(before)


def value_of(version: Version) -> bytes:
    return (version.fields.get("value") or next(iter(version.fields.values()))).reveal()


class MemoryBench:
    """A place of its own for one destination class."""

    def __init__(self, kind: type[Memory] = Memory) -> None:
        self.place = Place()
        self.destination = kind(self.place)

    def call(self, *, timeout_s: float = 10.0) -> Call:
        return call(outbound.Guard(), timeout_s=timeout_s, config={}, options={}, admin={})

    def consumed(self) -> bytes | None:
        return self.place.live[2] if self.place.live else None

    def state(self) -> object:
        return (self.place.live, dict(self.place.staged), self.place.writes)

    def overwrite(self) -> None:
        mark, marked, _ = self.place.live or ("", b"", b"")
        self.place.live = (mark, marked, b"typed-by-hand")

    def settle(self) -> None:
        pass

    @contextmanager
    def _failing(self, fault: str, words: bytes = b"") -> Iterator[None]:
        self.place.fault, self.place.words, self.place.hits = fault, words, 0
        try:
            yield
        finally:
            self.place.fault = ""

    def lose_request(self):
        return self._failing("request")

    def lose_answer(self):
        return self._failing("answer")

    def hang(self):
        return self._failing("hang")

    def down(self):
        return self._failing("down")

    def hostile(self, words: Sequence[bytes]):
        return self._failing("hostile", b" ".join(words))

    def struck(self) -> int:
        return self.place.hits

    def admin_secrets(self) -> Sequence[bytes]:
        return []
