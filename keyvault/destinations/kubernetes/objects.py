"""What a Secret and a Deployment say of our versions, and the patches that change it. Pure.

Whose an entry is, the API server knows itself: `metadata.managedFields` names
the manager that last changed each field. No digest of a value has to be kept in
an annotation, which `kubectl describe` shows to anybody at the screen.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keyvault.destinations import mapping
from keyvault.destinations.base import Health, Misconfigured, Observed, State

MANAGER = "keyvault"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # RFC 1123 subdomain.
_ENTRY = re.compile(r"(?!\.\.)[A-Za-z0-9._-]{1,253}")
_MARK_CHARS = 12

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Entries of one Secret, by part of a version.

    Several keys may each have their own entries in the same Secret.
    """

    namespace: str
    secret: str
    entries: Mapping[str, str]
    deployment: str = ""

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Place:
        """Read a target. Raises Misconfigured."""
        names = {
            name: str(options.get(name) or "").strip()
            for name in ("namespace", "secret", "deployment")
        }
        for name, text in names.items():
            if not _NAME.fullmatch(text) and (text or name != "deployment"):
                raise Misconfigured(f"The {name}'s name is none that Kubernetes knows.")
        found = mapping.parse(str(options.get("entries") or ""), _ENTRY)
        return cls(entries=found, **names)

    @property
    def names(self) -> frozenset[str]:
        """The names of the entries."""
        return frozenset(self.entries.values())

    @property
    def version_mark(self) -> str:
        """The annotation that holds the live version's id; each set of entries has its own."""
        return f"{MANAGER}/version-{self._digest()}"

    @property
    def staged_mark(self) -> str:
        """The annotation that holds the ids of versions that are announced."""
        return f"{MANAGER}/staged-{self._digest()}"

    def _digest(self) -> str:
        names = "\n".join(sorted(self.names))
        return hashlib.sha256(names.encode()).hexdigest()[:_MARK_CHARS]


@dataclass(frozen=True, slots=True)
class Held:
    """A Secret as far as it concerns one place."""

    resource_version: str
    live: str | None
    is_foreign: bool
    staged: tuple[str, ...]
    is_immutable: bool

    def observed(self) -> Observed:
        """Return it in the protocol's words."""
        return Observed(self.live, self.is_foreign, self.staged, self.resource_version)


def held(secret: Object, place: Place) -> Held:
    """Return what a Secret holds of a place.

    It is ours where the annotation names a version, every entry is there, and
    nobody else has changed one of them since.
    """
    metadata = secret.get("metadata") or {}
    notes = metadata.get("annotations") or {}
    present = place.names.intersection(secret.get("data") or {})
    live = notes.get(place.version_mark) or None
    is_ours = present == place.names and present.issubset(_managed(metadata))
    staged = tuple(notes.get(place.staged_mark, "").split())
    return Held(
        resource_version=str(metadata.get("resourceVersion", "")),
        live=live if is_ours else None,
        is_foreign=bool(present) and not (is_ours and live),
        staged=tuple(one for one in staged if one != live or not is_ours),
        is_immutable=secret.get("immutable") is True,
    )


def _managed(metadata: Object) -> Iterator[str]:
    """Yield the entries whose last change was keyvault's own."""
    for row in metadata.get("managedFields") or ():
        if row.get("manager") == MANAGER:
            for name in (row.get("fieldsV1") or {}).get("f:data") or {}:
                yield name.removeprefix("f:")


def live_patch(place: Place, found: Held, version_id: str, data: Mapping[str, str]) -> Object:
    """Return the merge patch that makes a version live, if the Secret is as it was found."""
    left = [one for one in found.staged if one != version_id]
    notes = {place.version_mark: version_id, place.staged_mark: _words(left)}
    coded = {name: b64encode(value.encode()).decode() for name, value in data.items()}
    return {"metadata": _metadata(found, notes), "data": coded}


def staged_patch(place: Place, found: Held, staged: Sequence[str]) -> Object:
    """Return the merge patch that says which versions are announced."""
    return {"metadata": _metadata(found, {place.staged_mark: _words(staged)})}


def removal_patch(place: Place, found: Held) -> Object:
    """Return the merge patch that takes our entries and annotations away."""
    notes = {place.version_mark: None, place.staged_mark: None}
    return {"metadata": _metadata(found, notes), "data": dict.fromkeys(place.names)}


def restart_patch(place: Place, version_id: str) -> Object:
    """Return the merge patch that has a Deployment replace its pods."""
    notes = {place.version_mark: version_id}
    return {"spec": {"template": {"metadata": {"annotations": notes}}}}


def restarted_for(deployment: Object, place: Place) -> str | None:
    """Return the version for which the pods were last replaced."""
    template = (deployment.get("spec") or {}).get("template") or {}
    notes = (template.get("metadata") or {}).get("annotations") or {}
    found: str | None = notes.get(place.version_mark)
    return found


def rollout(deployment: Object) -> Health:
    """Say how far the pods of a Deployment are, by the rule of `kubectl rollout status`."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    metadata = deployment.get("metadata") or {}
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return Health(State.PENDING, "The cluster has not yet taken up the restart.")
    for condition in status.get("conditions") or ():
        if condition.get("reason") == "ProgressDeadlineExceeded":
            return Health(State.BAD, "New pods did not become available in time.")
    wanted = spec.get("replicas", 1)
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available = status.get("availableReplicas", 0)
    if spec.get("paused") and updated < wanted:
        return Health(State.BAD, "The Deployment is paused, so that no pod is replaced.")
    if updated >= wanted and total <= updated and available >= updated:
        return Health(State.OK, f"{updated} of {wanted} pods run with it.")
    return Health(State.PENDING, f"{updated} of {wanted} pods are new, {available} available.")


def _metadata(found: Held, notes: Mapping[str, str | None]) -> Object:
    return {"resourceVersion": found.resource_version, "annotations": notes}


def _words(ids: Sequence[str]) -> str | None:
    return " ".join(ids) or None
