"""Kubernetes Secrets: entries of one Secret, and the restart of a Deployment that reads it."""

from __future__ import annotations

from keyvault.destinations.kubernetes.destination import Kubernetes

__all__ = ["Kubernetes"]
