"""One secret of Secrets Manager: its labels, and the calls that move them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from keyvault.destinations.base import JSON, Context, Misconfigured, Transient
from keyvault.plugins import aws

CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"
# The version that stands where nothing of ours is live: a secret of AWS that ever had a value
# always has a live one. Its id is the same in every secret and says what it is.
NOTHING = str(UUID(bytes=b"keyvault-nothing"))
NO_CONTENT = "{}"
_MARK = "keyvault-"
_NAME = re.compile(r"[A-Za-z0-9/_+=.@:-]{1,2048}")
# AWS takes 32 to 64 characters as the id of a version.
_ID = re.compile(r"[A-Za-z0-9-]{32,64}")


@dataclass(frozen=True, slots=True)
class Labels:
    """Which labels each version bears, by its id, as the place itself tells it."""

    of: Mapping[str, frozenset[str]]
    is_deleted: bool = False
    is_rotated_there: bool = False

    def holder(self, label: str) -> str:
        """Return the id of the version that bears a label, empty when none does."""
        return next((found for found, labels in self.of.items() if label in labels), "")

    @property
    def current(self) -> str:
        """The id of the live version, empty in a secret that never had a value."""
        return self.holder(CURRENT)

    def is_ours(self, version_id: str) -> bool:
        """Say whether we made a version: it bears a label with its own id."""
        return mark(version_id) in self.of.get(version_id, frozenset())

    def staged(self) -> tuple[str, ...]:
        """Return the ids of our versions that lie beside the live one."""
        return tuple(
            found
            for found, labels in self.of.items()
            if PENDING in labels and CURRENT not in labels and self.is_ours(found)
        )


@dataclass(frozen=True, slots=True)
class RemoteSecret:
    """The secret `name` in its account and region."""

    name: str
    api: aws.Service

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """Read the settings of the account and the target. Raises Misconfigured."""
        region = str(ctx.config.get("region") or "").strip()
        name = str(ctx.options.get("secret") or "").strip()
        part = aws.partition_of(region)
        if not _NAME.fullmatch(name):
            raise Misconfigured("Name the secret as AWS writes it, or by its ARN.")
        own = str(ctx.config.get("endpoint") or "").strip()
        url = own or f"https://secretsmanager.{region}.{part.domain}"
        key = aws.AccessKey.of(ctx.admin)
        return cls(name, aws.Service(ctx, key, "secretsmanager", region, url))

    def labels(self) -> Labels:
        """Read the labels, and no value. Raises NotFound, Denied, Transient."""
        found = self._read("DescribeSecret")
        by_id = found.get("VersionIdsToStages") or {}
        if not isinstance(by_id, dict):
            raise Transient("AWS gave no usable answer; nothing was changed.")
        return Labels(
            {str(version_id): frozenset(map(str, names)) for version_id, names in by_id.items()},
            is_deleted=found.get("DeletedDate") is not None,
            is_rotated_there=found.get("RotationEnabled") is True,
        )

    def live_content(self) -> tuple[str, str]:
        """Return the id of the live version and its content, in clear.

        The label is named: some implementations answer with an older version without it.
        """
        found = self._read("GetSecretValue", VersionStage=CURRENT)
        return str(found.get("VersionId", "")), str(found.get("SecretString", ""))

    def put(self, version_id: str, content: str, labels: Sequence[str]) -> None:
        """Lay a version down under these labels; one that lies there already stays as it is.

        Raises Misconfigured for an id that AWS would not take, Conflict when the version is
        there with another content.
        """
        if not _ID.fullmatch(version_id):
            raise Misconfigured("The id of the version is none that AWS takes.")
        self._change(
            "PutSecretValue",
            ClientRequestToken=version_id,
            SecretString=content,
            VersionStages=list(labels),
        )

    def move(self, label: str, *, to: str = "", away_from: str = "") -> None:
        """Move a label. AWS compares: raises InvalidParameter when it is not at `away_from`."""
        ends = {"MoveToVersionId": to, "RemoveFromVersionId": away_from}
        given = {name: value for name, value in ends.items() if value}
        self._change("UpdateSecretVersionStage", VersionStage=label, **given)

    def _read(self, action: str, **more: JSON) -> Mapping[str, JSON]:
        body = {"SecretId": self.name, **more}
        return self.api.read_json(f"secretsmanager.{action}", body)

    def _change(self, action: str, **more: JSON) -> None:
        body = {"SecretId": self.name, **more}
        self.api.change_json(f"secretsmanager.{action}", body)


def mark(version_id: str) -> str:
    """Return the label by which we know a version as ours."""
    return f"{_MARK}{version_id}"
