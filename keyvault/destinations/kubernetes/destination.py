"""The Kubernetes destination: what each call of the protocol does, request by request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar

from keyvault.destinations import mapping
from keyvault.destinations.base import (
    Ambiguous,
    Conflict,
    Context,
    DestinationCapabilities,
    Field,
    Health,
    Misconfigured,
    NotFound,
    Observed,
    Problem,
    ProviderError,
    Restart,
    State,
    Transient,
    Version,
)
from keyvault.destinations.kubernetes import objects, schema
from keyvault.destinations.kubernetes.cluster import DEPLOYMENTS, SECRETS, Cluster
from keyvault.destinations.kubernetes.objects import Held, Place

# The kubelet looks every minute and may keep what it saw for another.
_KUBELET_S = 120.0
_MEND = "Correct the target or the rights; docs/destinations/kubernetes.md has the Role."


class Kubernetes:
    """Writes entries of one Secret, compared by its resourceVersion, and restarts a Deployment.

    A staged version lies there as a mark only: an entry beside the live one
    would be in every environment and volume that takes the whole Secret.
    """

    kind: ClassVar[str] = "kubernetes"
    title: ClassVar[str] = "Kubernetes Secret"
    verified_by: ClassVar[str] = "fake"
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    target_schema: ClassVar[Sequence[Field]] = schema.TARGET

    def capabilities(self, ctx: Context) -> DestinationCapabilities:
        """Return comparing writes; consumers restart, wait for the kubelet, or are restarted."""
        is_volume = ctx.options.get("mounted_as") == schema.VOLUME
        is_restarted = bool(ctx.options.get("deployment"))
        return DestinationCapabilities(
            stages=True,
            cas=True,
            readback=True,
            consumer_lag_s=_KUBELET_S if is_volume and not is_restarted else 0.0,
            needs_restart=Restart.NOTHING if is_volume or is_restarted else Restart.CONSUMER,
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Return what is missing: the Secret, the Deployment, or a right on one of them.

        All of these are of a target; a token need not be able to read anything else.
        """
        if not ctx.options:
            return []
        try:
            cluster = _cluster(ctx)
            if objects.held(cluster.secret(), cluster.place).is_immutable:
                return [Problem(_immutable(cluster.place).sentence, _MEND)]
            wanted = [SECRETS]
            if cluster.place.deployment:
                cluster.deployment()
                wanted.append(DEPLOYMENTS)
            missing = [one for one in wanted if not cluster.may_patch(one)]
        except ProviderError as error:
            return [Problem(error.sentence, _MEND)]
        return [Problem(f"The token may not patch {one} there.", _MEND) for one in missing]

    def observe(self, ctx: Context) -> Observed:
        """Return what the Secret holds under our entries; a missing Secret holds nothing."""
        cluster = _cluster(ctx)
        try:
            return _held(cluster).observed()
        except NotFound:
            return Observed(None)

    def stage(self, ctx: Context, version: Version) -> None:
        """Announce a version by a mark, and have the server judge a restart without doing it."""
        cluster = _cluster(ctx)
        mapping.shown(version, cluster.place.entries)
        found = _held(cluster)
        if found.is_immutable:
            raise _immutable(cluster.place)
        if cluster.place.deployment:
            patch = objects.restart_patch(cluster.place, version.id)
            cluster.patch_deployment(patch, is_trial=True)
        if version.id not in (found.live, *found.staged):
            _mark(cluster, found, (*found.staged, version.id))

    def promote(self, ctx: Context, version: Version, expect: str | None) -> Observed:
        """Write the entries in one request if the Secret is as it was read, then restart."""
        cluster = _cluster(ctx)
        data = mapping.shown(version, cluster.place.entries)
        found = _held(cluster)
        if found.live != version.id:
            _require(found, expect)
            if found.is_immutable:
                raise _immutable(cluster.place)
            patch = objects.live_patch(cluster.place, found, version.id, data)
            with _compared(cluster, expect):
                found = objects.held(cluster.patch_secret(patch), cluster.place)
        if cluster.place.deployment:
            _restart(cluster, version.id)
        return found.observed()

    def verify(self, ctx: Context, version: Version) -> Health:
        """Compare the Secret's version, then say how far the Deployment's new pods are."""
        cluster = _cluster(ctx)
        try:
            return _shown(_held(cluster), version) or _rollout(cluster, version)
        except NotFound as error:
            return Health(State.BAD, error.sentence)
        except Transient as error:
            return Health(State.PENDING, error.sentence)

    def cleanup(self, ctx: Context, keep: Sequence[str]) -> None:
        """Take back the marks of versions that are no longer wanted."""
        cluster = _cluster(ctx)
        with suppress(NotFound):
            found = _held(cluster)
            kept = [one for one in found.staged if one in keep]
            if len(kept) < len(found.staged):
                _mark(cluster, found, kept)

    def remove(self, ctx: Context, expect: str) -> None:
        """Take our entries and marks out of the Secret; it stays, and so do the entries of others."""
        cluster = _cluster(ctx)
        with suppress(NotFound):
            found = _held(cluster)
            if found.live is None and not found.is_foreign:
                return
            _require(found, expect)
            with _compared(cluster, expect):
                cluster.patch_secret(objects.removal_patch(cluster.place, found))


def _cluster(ctx: Context) -> Cluster:
    return Cluster(ctx, Place.read(ctx.options))


def _held(cluster: Cluster) -> Held:
    return objects.held(cluster.secret(), cluster.place)


def _require(found: Held, expect: str | None) -> None:
    """Raise Conflict unless exactly what the caller expects is live."""
    if found.is_foreign:
        raise Conflict("The entries of the Secret were set by somebody else; they stay.")
    if found.live != expect:
        raise Conflict("The Secret holds another version than the expected one; it stays.")


def _shown(found: Held, version: Version) -> Health | None:
    """Return why the Secret does not show a version, or None where it does."""
    if found.is_foreign:
        return Health(State.BAD, "Somebody else has changed the entries of the Secret.")
    if found.live != version.id:
        return Health(State.PENDING, "The Secret does not hold this version.")
    return None


def _rollout(cluster: Cluster, version: Version) -> Health:
    if not cluster.place.deployment:
        return Health(State.OK, "The Secret holds it.")
    deployment = cluster.deployment()
    if objects.restarted_for(deployment, cluster.place) != version.id:
        return Health(State.PENDING, "The Deployment was not restarted for this version.")
    return objects.rollout(deployment)


@contextmanager
def _compared(cluster: Cluster, expect: str | None) -> Iterator[None]:
    """Tell a change of our entries from one of anything else in the same Secret.

    The server refuses both alike, by the resourceVersion. Only the first is a
    Conflict; after the second the same call goes through.
    """
    try:
        yield
    except Conflict:
        _require(_held(cluster), expect)
        raise Transient(
            "Another part of the Secret changed meanwhile; nothing was written."
        ) from None


def _mark(cluster: Cluster, found: Held, staged: Sequence[str]) -> None:
    try:
        cluster.patch_secret(objects.staged_patch(cluster.place, found, staged))
    except Conflict:
        raise Transient("The Secret changed meanwhile; nothing was written.") from None


def _restart(cluster: Cluster, version_id: str) -> None:
    """Replace the pods once for each version. What is transient no longer is: the Secret moved."""
    try:
        if objects.restarted_for(cluster.deployment(), cluster.place) != version_id:
            cluster.patch_deployment(objects.restart_patch(cluster.place, version_id))
    except (Transient, Conflict):
        raise Ambiguous("The Secret is written; whether the restart began is not known.") from None


def _immutable(place: Place) -> Misconfigured:
    return Misconfigured(f"The Secret {place.namespace}/{place.secret} is immutable.")
