"""Access keys of IAM users at AWS: two of a user live side by side while a key moves."""

from __future__ import annotations

from keyvault.providers.aws_iam.provider import AwsIam

__all__ = ["AwsIam"]
