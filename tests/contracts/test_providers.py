"""Every provider keeps every promise of the protocol, against real servers."""

from __future__ import annotations

import pytest

from keyvault.providers.testing import Bench, ProviderConformance


class TestPostgreSQL(ProviderConformance):
    @pytest.fixture
    def bench(self, postgres_bench: Bench) -> Bench:
        return postgres_bench


class TestValkey(ProviderConformance):
    @pytest.fixture
    def bench(self, valkey_bench: Bench) -> Bench:
        return valkey_bench
