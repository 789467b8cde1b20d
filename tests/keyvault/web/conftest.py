"""The pages' tests use the approvals' house: a wall to paint, and people who decide."""

from __future__ import annotations

from tests.approvals.conftest import house, world

__all__ = ["house", "world"]
