"""Where the APIs of AWS are: the three partitions that anybody can have an account in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from keyvault.plugins.errors import Misconfigured

_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+){1,2}-[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of AWS with accounts of its own. `iam_region` signs for IAM, which is global in it."""

    name: str
    domain: str
    iam_host: str
    iam_region: str


_STANDARD = Partition("aws", "amazonaws.com", "iam.amazonaws.com", "us-east-1")
_BY_PREFIX = {
    "cn-": Partition("aws-cn", "amazonaws.com.cn", "iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    "us-gov-": Partition(
        "aws-us-gov", "amazonaws.com", "iam.us-gov.amazonaws.com", "us-gov-west-1"
    ),
}


def partition_of(region: str) -> Partition:
    """Return the partition of a region such as eu-central-1.

    Raises Misconfigured on what cannot be the name of a region: it becomes a part
    of host names.
    """
    if not _REGION.fullmatch(region):
        raise Misconfigured("Write the region as AWS does, such as eu-central-1.")
    found = (part for prefix, part in _BY_PREFIX.items() if region.startswith(prefix))
    return next(found, _STANDARD)
