"""The GitHub destination: what each call of the protocol does, request by request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from keyvault.destinations import mapping
from keyvault.destinations.base import (
    Ambiguous,
    Conflict,
    Context,
    DestinationCapabilities,
    Field,
    Health,
    NotFound,
    Observed,
    Problem,
    ProviderError,
    State,
    Transient,
    Version,
)
from keyvault.destinations.github_actions import schema
from keyvault.destinations.github_actions.mark import Mark, observed, stamp
from keyvault.destinations.github_actions.repository import PublicBox, Repository

_MEND = "Correct the target or the token; docs/destinations/github-actions.md has its rights."


class GitHubActions:
    """Seals each entry to the repository's public key and writes it between two marks.

    A value cannot be read again, so that a repeated promotion writes it again.
    """

    kind: ClassVar[str] = "github_actions"
    title: ClassVar[str] = "GitHub Actions secret"
    verified_by: ClassVar[str] = "fake"
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    target_schema: ClassVar[Sequence[Field]] = schema.TARGET

    def capabilities(self, ctx: Context) -> DestinationCapabilities:
        """Return neither staging, comparison nor reading back; jobs keep their value."""
        text = str(ctx.options.get("longest_job_s") or "")
        is_number = text.isascii() and text.isdigit()
        return DestinationCapabilities(
            stages=False,
            cas=False,
            readback=False,
            consumer_lag_s=float(text) if is_number else float(schema.LONGEST_JOB_S),
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Read the public key, the secrets' times and the mark. Rights to write do not show.

        All of these are of a repository, which only a target names.
        """
        if not ctx.options:
            return []
        try:
            repository = Repository.read(ctx)
            repository.public_key()
            _found(repository)
        except ProviderError as error:
            return [Problem(error.sentence, _MEND)]
        return []

    def observe(self, ctx: Context) -> Observed:
        """Return what the mark says; a secret that was written after it is foreign."""
        return _found(Repository.read(ctx))[1]

    def stage(self, ctx: Context, version: Version) -> None:
        """Change nothing; refuse a version that could not be written."""
        repository = Repository.read(ctx)
        repository.public_key().seal(mapping.shown(version, repository.entries))

    def promote(self, ctx: Context, version: Version, expect: str | None) -> Observed:
        """Mark what is to come, write every entry, mark what is. Raises Conflict before that."""
        repository = Repository.read(ctx)
        key = repository.public_key()
        boxes = key.seal(mapping.shown(version, repository.entries))
        mark, found = _found(repository)
        if found.live != version.id:
            _require(mark, found, {expect, version.id})
        repository.set_mark(Mark(version.id, former=found.live, is_settled=False))
        written = _write(repository, boxes, key)
        with _begun():
            repository.set_mark(Mark(version.id, stamp(written)))
        return Observed(version.id, etag=stamp(written))

    def verify(self, ctx: Context, version: Version) -> Health:
        """Say what mark and times say; which value a running job has nobody can see."""
        try:
            found = self.observe(ctx)
        except (Transient, NotFound) as error:
            return Health(State.PENDING, error.sentence)
        if found.is_foreign:
            return Health(State.BAD, "Somebody else has written the secret.")
        if found.live != version.id:
            return Health(State.PENDING, "The secret does not hold this version.")
        return Health(State.OK, "The secret holds it; jobs that run keep the value before it.")

    def cleanup(self, ctx: Context, keep: Sequence[str]) -> None:
        """Do nothing: nothing lies beside the live value."""

    def remove(self, ctx: Context, expect: str) -> None:
        """Delete the secrets, then the mark. Raises Conflict when they hold something else."""
        repository = Repository.read(ctx)
        mark, found = _found(repository)
        if found.etag:
            _require(mark, found, {expect})
            for name in repository.names:
                repository.delete(name)
        repository.delete_mark()


def _found(repository: Repository) -> tuple[Mark | None, Observed]:
    mark = repository.mark()
    return mark, observed(mark, repository.written())


def _require(mark: Mark | None, found: Observed, wanted: set[str | None]) -> None:
    """Raise Conflict unless what holds, or may hold while the mark is unsettled, is wanted."""
    if found.is_foreign:
        raise Conflict("Somebody else has written the secret; it stays.")
    may_hold = {found.live} if mark is None or mark.is_settled else {found.live, mark.version_id}
    if not may_hold & wanted:
        raise Conflict("The secret holds another version than the expected one; it stays.")


def _write(repository: Repository, boxes: Mapping[str, str], key: PublicBox) -> dict[str, str]:
    """Write every secret and return their times. Once one is written, any failure is Ambiguous."""
    for number, (name, box) in enumerate(boxes.items()):
        if number:
            with _begun():
                repository.write(name, box, key)
        else:
            repository.write(name, box, key)
    with _begun():
        return repository.written()


@contextmanager
def _begun() -> Iterator[None]:
    """Name every failure after the first write what it is: the change may hold."""
    try:
        yield
    except ProviderError:
        raise Ambiguous("The secrets may be written; the mark does not say so yet.") from None
