"""What Secrets Manager in particular must and must not do, before moto."""

from __future__ import annotations

import pytest

from keyvault.destinations.testing import Bench, DestinationConformance


class TestAwsSecrets(DestinationConformance):
    @pytest.fixture
    def bench(self, secret_bench: Bench) -> Bench:
        return secret_bench
