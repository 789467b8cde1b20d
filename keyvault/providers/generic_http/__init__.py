"""Any API whose requests an administrator declares: create, list, validate and revoke."""

from __future__ import annotations

from keyvault.providers.generic_http.provider import GenericHttp

__all__ = ["GenericHttp"]
