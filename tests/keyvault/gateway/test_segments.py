"""The log of reads: nothing is answered that is not written, nothing written is lost or doubled."""

from __future__ import annotations

import pytest

from keyvault.audit.reads.models import ReadEvent, ReadSegment
from keyvault.gateway.records import Mode
from tests.keyvault.gateway.reading import written

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("mode", Mode)
def test_reads_reach_the_database_once_and_leave_no_file(tmp_path, mode):
    written(tmp_path / "log", 1000, mode=mode)

    rows = list(ReadEvent.objects.order_by("seq").values_list("seq", flat=True))
    assert rows == list(range(1, 1001))
    assert sum(ReadSegment.objects.values_list("count", flat=True)) == 1000
    assert list((tmp_path / "log").iterdir()) == []
