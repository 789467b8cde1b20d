"""The destination Secrets Manager: what each call of the protocol does, request by request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar

from keyvault.destinations import mapping
from keyvault.destinations.aws_secrets import schema
from keyvault.destinations.aws_secrets.secret import (
    CURRENT,
    NO_CONTENT,
    NOTHING,
    PENDING,
    PREVIOUS,
    Labels,
    RemoteSecret,
    mark,
)
from keyvault.destinations.base import (
    Conflict,
    Context,
    Denied,
    DestinationCapabilities,
    Field,
    Health,
    Misconfigured,
    NotFound,
    Observed,
    Problem,
    ProviderError,
    State,
    Version,
)
from keyvault.plugins import aws

# The caches of AWS's own kits for consumers keep a value for an hour.
_CONSUMER_LAG_S = 3600.0
_MENDS = {
    Denied.code: "Enter an active access key whose user has the rights of docs/destinations.",
    NotFound.code: "Make the secret, without a value, and allow it to the access key's user.",
}
_ELSEWHERE = "Correct the destination; docs/destinations/aws-secrets.md has what it needs."


class AwsSecrets:
    """Lays a version under AWSPENDING and moves AWSCURRENT to it, which AWS compares by itself.

    A version's id there is ours, and it bears a label with that id: so it is known
    as ours from the labels alone, and no value needs to be read to compare.
    """

    kind: ClassVar[str] = "aws_secrets"
    title: ClassVar[str] = "AWS Secrets Manager"
    verified_by: ClassVar[str] = "fake"
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    target_schema: ClassVar[Sequence[Field]] = schema.TARGET

    def capabilities(self, ctx: Context) -> DestinationCapabilities:
        """Return that AWS keeps versions side by side and compares before it moves a label."""
        del ctx
        return DestinationCapabilities(
            stages=True, cas=True, readback=True, consumer_lag_s=_CONSUMER_LAG_S
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Read the labels and the live value, and say what is wrong.

        Rights to write show when a version is staged, before anything has moved;
        without a target there is nothing that the account's user must be able to read.
        """
        if not ctx.options:
            return []
        try:
            _names(ctx)
            secret = RemoteSecret.of(ctx)
            labels = secret.labels()
            if labels.current and not labels.is_deleted:
                secret.live_content()
        except ProviderError as error:
            return [Problem(error.sentence, _MENDS.get(error.code, _ELSEWHERE))]
        return _hindrances(labels)

    def observe(self, ctx: Context) -> Observed:
        """Return what the labels say; no value is read."""
        return _observed(RemoteSecret.of(ctx).labels())

    def stage(self, ctx: Context, version: Version) -> None:
        """Lay the version under AWSPENDING. Raises Denied when the right to write is missing."""
        secret, content = RemoteSecret.of(ctx), _content(ctx, version)
        _stage(secret, secret.labels(), version.id, content)

    def promote(self, ctx: Context, version: Version, expect: str | None) -> Observed:
        """Move AWSCURRENT to the version, away from what is expected there."""
        secret = RemoteSecret.of(ctx)
        labels = secret.labels()
        found = _observed(labels)
        if found.live == version.id:
            return found
        _require(found, expect)
        content = _content(ctx, version)
        _stage(secret, labels, version.id, content)
        return _promoted(secret, version.id, expect or NOTHING)

    def verify(self, ctx: Context, version: Version) -> Health:
        """Read the live value and compare it with the version."""
        try:
            secret = RemoteSecret.of(ctx)
            found = _observed(secret.labels())
            if found.is_foreign:
                return Health(State.BAD, "Somebody else's value is live.")
            if found.live != version.id:
                return Health(State.PENDING, "Another version is live.")
            version_id, content = secret.live_content()
        except ProviderError as error:
            return Health(State.PENDING, error.sentence)
        if version_id != version.id:
            return Health(State.PENDING, "Another version has just become live.")
        if content != _content(ctx, version):
            return Health(State.BAD, "The live value is not what the settings make of the version.")
        return Health(State.OK)

    def cleanup(self, ctx: Context, keep: Sequence[str]) -> None:
        """Take the labels from our other versions; AWS deletes what bears none in its own time."""
        secret = RemoteSecret.of(ctx)
        labels = secret.labels()
        kept = {*keep, labels.current, NOTHING}
        for version_id in labels.of:
            if labels.is_ours(version_id) and version_id not in kept:
                _forget(secret, labels, version_id)

    def remove(self, ctx: Context, expect: str) -> None:
        """Move AWSCURRENT to an empty version, and take the labels from ours."""
        secret = RemoteSecret.of(ctx)
        try:
            labels = secret.labels()
        except NotFound:
            return
        found = _observed(labels)
        if found.live == expect:
            _lay_nothing(secret, labels)
            _promoted(secret, NOTHING, expect)
            labels = secret.labels()
        elif found.live or found.is_foreign:
            raise Conflict("What is live is not the version to remove; it stays.")
        _forget(secret, labels, expect)


def _observed(labels: Labels) -> Observed:
    current = labels.current
    is_nothing = current in {"", NOTHING}
    is_ours = labels.is_ours(current) and not is_nothing
    return Observed(
        current if is_ours else None,
        is_foreign=not is_nothing and not is_ours,
        staged=labels.staged(),
        etag=current,
    )


def _require(found: Observed, expect: str | None) -> None:
    """Raise Conflict unless the expected version is live, or nothing of anybody's."""
    if found.is_foreign:
        raise Conflict("Somebody else's value is live; it stays.")
    if found.live != expect:
        raise Conflict("Another version is live than the one that was expected; it stays.")


def _stage(secret: RemoteSecret, labels: Labels, version_id: str, content: str) -> None:
    """Have the version there under its labels; what bears them already is left alone."""
    if labels.is_deleted:
        raise Misconfigured("The secret is marked for deletion. Restore it first.")
    if version_id == labels.current or _wears(labels, version_id):
        return
    if not labels.current:
        # The first version that a secret gets becomes live at once. This one may.
        _lay_nothing(secret, labels)
    secret.put(version_id, content, [PENDING, mark(version_id)])
    after = secret.labels()
    if not _wears(after, version_id):
        # A version that was there before keeps what it bore, so that it gets its labels by hand.
        _label(secret, after, PENDING, version_id)
        _label(secret, after, mark(version_id), version_id)


def _wears(labels: Labels, version_id: str) -> bool:
    return {PENDING, mark(version_id)} <= labels.of.get(version_id, frozenset())


def _label(secret: RemoteSecret, labels: Labels, label: str, version_id: str) -> None:
    holder = labels.holder(label)
    if holder != version_id:
        secret.move(label, to=version_id, away_from=holder)


def _lay_nothing(secret: RemoteSecret, labels: Labels) -> None:
    """Have the empty version there. It takes no label from any other version."""
    if not labels.is_ours(NOTHING):
        secret.put(NOTHING, NO_CONTENT, [mark(NOTHING)])
        _label(secret, secret.labels(), mark(NOTHING), NOTHING)


def _promoted(secret: RemoteSecret, version_id: str, expect: str) -> Observed:
    """Move AWSCURRENT from one version to another. Raises Conflict when it was elsewhere."""
    try:
        secret.move(CURRENT, to=version_id, away_from=expect)
    except aws.InvalidParameter:
        found = _observed(secret.labels())
        if found.etag == version_id:
            return found
        raise Conflict("Somebody else has changed the secret meanwhile; it stays.") from None
    return _observed(secret.labels())


def _forget(secret: RemoteSecret, labels: Labels, version_id: str) -> None:
    """Take every label from a version that we gave it, and the one that AWS gave it for us."""
    ours = {PENDING, PREVIOUS, mark(version_id)}
    for label in sorted(labels.of.get(version_id, frozenset()) & ours):
        secret.move(label, away_from=version_id)


def _hindrances(labels: Labels) -> list[Problem]:
    found = []
    if labels.is_deleted:
        found.append(Problem("The secret is marked for deletion.", "Restore it in AWS."))
    if labels.is_rotated_there:
        sentence = "AWS rotates this secret by itself, which would undo what keyvault does."
        found.append(Problem(sentence, "Cancel its rotation in AWS."))
    return found


def _names(ctx: Context) -> dict[str, str] | None:
    """Return names by part, None for every part under its own. Raises Misconfigured."""
    text = str(ctx.options.get("parts") or "").strip()
    names = mapping.parse(text) if text else None
    if ctx.options.get("format") == "text" and (names is None or len(names) != 1):
        raise Misconfigured("A secret that is plain text holds one part: write value=VALUE.")
    return names


def _content(ctx: Context, version: Version) -> str:
    """Return the content of the secret for a version: always the same, as AWS asks of a repeat.

    Raises Misconfigured when the version lacks a part.
    """
    shown = mapping.shown(version, _names(ctx) or mapping.every_part(version))
    if ctx.options.get("format") == "text":
        return next(iter(shown.values()))
    return json.dumps(shown, sort_keys=True)
