"""A ledger that signs, and a database owner who switches the triggers off."""

from contextlib import AbstractContextManager, contextmanager

import pytest
from django.db import connection

from tests.keyvault.audit.conftest import signer

__all__ = ["signer"]  # Fixtures are found by name here.


class _Replica(AbstractContextManager):
    """No trigger fires inside the block. May be entered again."""

    def __enter__(self) -> None:
        self._set("replica")

    def __exit__(self, *_: object) -> None:
        self._set("DEFAULT")

    def _set(self, role: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET session_replication_role = {role}")


@pytest.fixture
def replica() -> AbstractContextManager:
    return _Replica()


@pytest.fixture
def as_app():
    """A block that runs as the serving role."""

    @contextmanager
    def as_app():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL ROLE kv_app")
        yield
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")

    return as_app
