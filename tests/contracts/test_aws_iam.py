"""What AWS IAM in particular must and must not do, before moto."""

from __future__ import annotations

import pytest

from keyvault.providers.testing import Bench, ProviderConformance


class TestAwsIam(ProviderConformance):
    @pytest.fixture
    def bench(self, iam_bench: Bench) -> Bench:
        return iam_bench
