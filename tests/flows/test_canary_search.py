"""The search for canaries finds what it must find, or its silence would mean nothing."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import httpx
import pytest

from tests.flows.canaries import disguises, files, leaking, leaks, planted


@pytest.mark.parametrize("writing", sorted(disguises("canary")))
def test_the_search_finds_a_planted_leak_in_every_writing(writing: str, tmp_path: Path):
    canary = planted()
    (tmp_path / "log").mkdir()
    leak = b"before " + disguises(canary)[writing] + b" after"
    (tmp_path / "log" / "console.log").write_bytes(leak)
    found = leaking(files(tmp_path), [planted(), canary])
    assert [*found] == ["log/console.log"]
    assert any(what.endswith(f"as {writing}") for what in found["log/console.log"])


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_the_search_finds_a_canary_inside_a_longer_base64(before: str):

    canary = planted()
    assert leaks(b64encode(f"{before}{canary}tail".encode()), [canary])
    assert leaks(b64encode(before.encode() + planted().encode()), [canary]) == []


def test_the_search_finds_what_a_real_client_wrote(tmp_path: Path):
    canary = planted()
    writings = (json.dumps({"password": canary}), f"{canary!r}", str(httpx.QueryParams(a=canary)))
    assert all(leaks(text.encode(), [canary]) for text in writings)
