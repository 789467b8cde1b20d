"""Cloudflare API tokens that belong to an account: one per credential, named by its attempt."""

from __future__ import annotations

from keyvault.providers.cloudflare.provider import Cloudflare

__all__ = ["Cloudflare"]
