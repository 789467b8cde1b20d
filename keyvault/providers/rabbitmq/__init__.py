"""RabbitMQ users: one per credential, made and ended through the management API."""

from __future__ import annotations

from keyvault.providers.rabbitmq.provider import RabbitMQ

__all__ = ["RabbitMQ"]
