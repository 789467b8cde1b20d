"""Secrets of AWS Secrets Manager: a version lies under AWSPENDING, then moves to AWSCURRENT."""

from __future__ import annotations

from keyvault.destinations.aws_secrets.destination import AwsSecrets

__all__ = ["AwsSecrets"]
