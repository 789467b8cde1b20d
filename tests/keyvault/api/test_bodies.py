"""R43: a body is judged before it is parsed, and only one plain object passes."""

from __future__ import annotations

import time

import pytest

from keyvault.api import bodies
from keyvault.api.problems import Problem

BOMBS = {
    "depth": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "members": b"{" + b",".join(b'"k%d":1' % i for i in range(1_000_000)) + b"}",
    "commas": b'{"a":[' + b"1," * 32_000 + b"1]}",
    "integer": b'{"a":' + b"9" * 60_000 + b"}",
    "exponent": b'{"a":1e999999999}',
    "quotes": b'{"a":"' + b'\\"' * 32_000,
    "open strings": b'"' * 64_001,
    "backslash": b'{"a":"\\',
}


@pytest.mark.parametrize("name", BOMBS)
def test_r43_a_bomb_is_refused_before_it_costs_anything(name):
    before = time.thread_time()

    with pytest.raises(Problem):
        bodies.parse(BOMBS[name])

    assert time.thread_time() - before < 5


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b"{} {}",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":1.5}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":"\\u0000"}',
        b'{"a":["\\ud800"]}',
        b'{"\\u0000":1}',
        b'{"a":"\xff"}',
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_only_one_plain_object_of_storable_text_and_whole_numbers_is_read(text):
    with pytest.raises(Problem):
        bodies.parse(text)


def test_brackets_and_commas_inside_texts_do_not_count():
    text = "[{,:" * 2_000 + '\\"'

    assert bodies.parse(('{"a":"' + text + '"}').encode()) == {"a": "[{,:" * 2_000 + '"'}


def test_a_plain_object_is_read_as_it_is():
    assert bodies.parse(b'{"a":[1,true,null,"x"],"b":{"c":-5}}') == {
        "a": [1, True, None, "x"],
        "b": {"c": -5},
    }
