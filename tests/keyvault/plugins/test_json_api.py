"""Answers of a JSON API: an object where one is expected, a list where that is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from keyvault.plugins.errors import Denied, Transient
from keyvault.plugins.json_api import JsonApi
from keyvault.plugins.values import Reply


@dataclass
class Answering:
    """A way out on which one answer comes to everything."""

    reply: Reply
    asked: list[str] = field(default_factory=list)

    @property
    def http(self):
        return self

    def remaining(self) -> float:
        return time.monotonic()

    def request(self, method, url, **_):
        self.asked.append(f"{method} {url}")
        return self.reply


def api(body: bytes, status: int = 200) -> JsonApi:
    return JsonApi(Answering(Reply(status, {}, body)), "https://api.test/", {})


def test_a_list_is_read_with_its_query():
    found = api(b'[{"name": "a"}, 1]')

    assert found.read_list("/users", {"columns": "name,tags"}) == [{"name": "a"}, 1]
    assert found.ctx.asked == ["GET https://api.test/users?columns=name%2Ctags"]


@pytest.mark.parametrize("body", [b"", b"{}", b'"text"', b"null", b"[1", b"[" * 100_000])
def test_what_is_no_list_is_no_empty_list(body):
    with pytest.raises(Transient):
        api(body).read_list("/users")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{"])
def test_what_is_no_object_is_no_empty_object(body):
    with pytest.raises(Transient):
        api(body).read("/users")


def test_a_refusal_is_no_empty_list():
    with pytest.raises(Denied):
        api(b"[]", 403).read_list("/users")
