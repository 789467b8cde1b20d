"""API keys of OpenAI service accounts: one more key per version, found again by its name."""

from __future__ import annotations

from keyvault.providers.openai.provider import OpenAI

__all__ = ["OpenAI"]
