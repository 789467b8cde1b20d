"""Write versions of a key to the place of a dependent, and read back what is there.

What is sent is noted before it is sent, so that whoever takes over after a
crash or a lost answer knows that it may be live there. What is live and is no
version of the key is somebody's own and stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from approvals.ports import NeedsPerson, Unfinished
from keyvault.connections import places
from keyvault.connections.calls import Errand, spoken, told
from keyvault.connections.context import Reach, reach_destination
from keyvault.dependents import services
from keyvault.dependents.models import Dependent
from keyvault.destinations import base
from keyvault.destinations.base import Destination, Health, Observed
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault

if TYPE_CHECKING:
    from keyvault.vault.models import Version


class Foreign(NeedsPerson):
    """A value that is not of keyvault is live at the place, and stays. The sentence says so."""


def stage(row: Dependent, version: Version, errand: Errand) -> None:
    """Lay a version beside the live one, where nobody reads it. Raises Unfinished, NeedsPerson."""
    with _holding(row, version, errand, "stage") as (reached, shown), spoken():
        reached.plugin.stage(reached.call(row.target), shown)


def promote(row: Dependent, version: Version, errand: Errand) -> None:
    """Make a version live at the place, away from whichever of ours is live there. Idempotent.

    Raises Unfinished, NeedsPerson (Foreign among them), LostClaim.
    """
    with errand.writing():
        services.note_trying(row, version)
    row.refresh_from_db()
    errand.run.reached("push:noted")
    try:
        server = _write(row, version, errand)
    except Unfinished as stop:
        _note_failed(row, stop, errand)
        raise
    errand.run.reached("push:written")
    with errand.writing():
        services.note_there(row, version, server=server, actor=errand.actor, now=errand.now)
    errand.run.reached("push:recorded")


def verify(row: Dependent, version: Version, errand: Errand) -> Health:
    """Return how a version is at the place. Raises Unfinished, NeedsPerson."""
    with _holding(row, version, errand, "verify") as (reached, shown), spoken():
        return reached.plugin.verify(reached.call(row.target), shown)


def cleanup(row: Dependent, keep: Version, errand: Errand) -> None:
    """Remove what was staged, except one version. Raises Unfinished, NeedsPerson."""
    with _reached(row, errand, "clean up") as reached, spoken():
        reached.plugin.cleanup(reached.call(row.target), [str(keep.pk)])


def remove(row: Dependent, errand: Errand) -> None:
    """Remove our value from the place; what never came there, and is gone, counts as removed.

    Raises Unfinished, NeedsPerson (Foreign among them).
    """
    try:
        with _reached(row, errand, "remove") as reached, _comparing():
            found = reached.plugin.observe(reached.call(row.target))
            if found.live is not None or found.is_foreign:
                expect = _expected(row, found)
                reached.plugin.remove(reached.call(row.target), expect or "")
    except Unfinished as stop:
        _note_failed(row, stop, errand)
        raise


def _note_failed(row: Dependent, stop: Unfinished, errand: Errand) -> None:
    if stop.code == "busy":
        # It waits its turn there, and nothing was tried.
        return
    is_last = errand.run.is_last
    with errand.writing():
        services.note_failed(row, stop, is_last=is_last, actor=errand.actor, now=errand.now)


def _write(row: Dependent, version: Version, errand: Errand) -> dict[str, str]:
    """Write and return what names the server at which that was."""
    with _holding(row, version, errand, "promote") as (reached, shown), _comparing():
        found = reached.plugin.observe(reached.call(row.target))
        expect = _expected(row, found)
        reached.plugin.promote(reached.call(row.target), shown, expect)
    return places.leads_to(reached.connection)


def _expected(row: Dependent, found: Observed) -> str | None:
    """Return which version of ours may be replaced at the place; None where there is none.

    Every version of the key is ours, whatever is known of the place: an answer may have been
    lost, and another version been sent since.
    """
    ours = {str(version.pk) for version in versions.versions(row.key_id)}
    return found.live if found.live in ours else None


@contextmanager
def _reached(row: Dependent, errand: Errand, purpose: str) -> Iterator[Reach[Destination]]:
    connection = row.connection
    if connection is None:
        raise ValueError(f"{row.name} is no place that keyvault writes to.")
    with (
        told(),
        reach_destination(
            connection, actor=errand.actor, now=errand.now, purpose=purpose
        ) as reached,
    ):
        yield reached


@contextmanager
def _holding(
    row: Dependent, version: Version, errand: Errand, purpose: str
) -> Iterator[tuple[Reach[Destination], base.Version]]:
    """Reach a place with a version opened for it, for as long as the block runs."""
    with _reached(row, errand, purpose) as reached, _opened(version, row, errand) as shown:
        yield reached, shown


@contextmanager
def _opened(version: Version, row: Dependent, errand: Errand) -> Iterator[base.Version]:
    material = vault.open_material(
        version_id=version.pk,
        actor=errand.actor,
        now=errand.now,
        purpose=f"delivery to {row.name}",
    )
    try:
        yield base.Version(str(version.pk), version.number, version.public, material)
    finally:
        for secret in material.values():
            secret.zero()


@contextmanager
def _comparing() -> Iterator[None]:
    """Turn a conflict into what it means here, and every other failure into a typed stop."""
    conflict = None
    with spoken():
        try:
            yield
        except base.Conflict as error:
            conflict = error
    if conflict is not None:
        raise Foreign("foreign", conflict.sentence)
