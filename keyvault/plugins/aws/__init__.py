"""Speak to the APIs of AWS: signed by botocore, sent by the guarded way out.

`Service` is one API with the credential that signs; `partition_of` knows where
the global ones are; `failures` turns error codes into the errors of plug-ins.
"""

from __future__ import annotations

from keyvault.plugins.aws.failures import InvalidParameter, InvalidToken
from keyvault.plugins.aws.partitions import Partition, partition_of
from keyvault.plugins.aws.service import Service, child, children
from keyvault.plugins.aws.signing import AccessKey
from keyvault.plugins.json_api import NotAccepted

__all__ = [
    "AccessKey",
    "InvalidParameter",
    "InvalidToken",
    "NotAccepted",
    "Partition",
    "Service",
    "child",
    "children",
    "partition_of",
]
