"""What an administrator may declare, and the sentence for what they may not. No network."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from keyvault.providers.base import Misconfigured
from keyvault.providers.generic_http.declaration import Declaration
from keyvault.providers.generic_http.entries import Entry
from keyvault.providers.generic_http.paths import JsonPath
from keyvault.providers.generic_http.templates import Body, Template

GOOD = {
    "parameters": ["role"],
    "create": {
        "path": "/keys",
        "headers": {"x-api-key": "{admin}"},
        "body": {"name": "{tag}", "roles": ["{role}"], "days": 30, "note": "{{kept}}"},
        "id": "$.id",
        "value": "$.value",
    },
    "list": {"path": "/keys", "items": "$", "id": "$.id", "name": "$.name"},
    "validate": {"path": "/me", "headers": {"authorization": "Bearer {value}"}},
    "revoke": {"path": "/keys/{id}"},
}
DOCS = Path(__file__).parents[3] / "docs" / "providers" / "generic-http.md"


def changed(place, value):
    """Return the good declaration with one member set, or taken away by `...`."""
    whole = copy.deepcopy(GOOD)
    *path, last = place.split("/")
    part = whole
    for name in path:
        part = part.setdefault(name, {})
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return whole


def test_what_is_left_out_has_a_sensible_meaning():
    found = Declaration.parse(json.dumps(GOOD))
    assert (found.create.request.method, found.revoke.request.method) == ("POST", "DELETE")
    assert found.create.ok == frozenset(range(200, 300))
    assert found.validate.invalid == {401}
    assert found.revoke.gone == {404, 410}
    filled = found.create.request.body.fill({"tag": "kv-a-1", "role": '"{admin}'})
    assert filled == {"name": "kv-a-1", "roles": ['"{admin}'], "days": 30, "note": "{kept}"}


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("create", ..., "create is needed"),
        ("create/id", ..., "create.id must be a path"),
        ("create/id", "id", "create.id must be a path"),
        ("create/id", "$..id", "create.id must be a path"),
        ("create/id", "$.keys[*].id", "create.id must be a path"),
        ("create/id", "$.keys[?(@.x)]", "create.id must be a path"),
        ("create/id", "$.value", "name one place"),
        ("create/mehtod", "POST", "create.mehtod means nothing"),
        ("created", {}, "created means nothing"),
        ("create/method", "GET", "create.method must be one of: POST, PUT"),
        ("create/body", {"name": "x"}, r"create must send \{tag\}"),
        ("create/body", {"name": "{tag} {id}"}, r"create.body.name may not use \{id\}"),
        ("create/body", {"name": ["{tag}", {"a": "{x"}]}, r"create.body.name\[1\].a has a brace"),
        ("create/body", {"name": "{tag.__class__}"}, "has a brace"),
        ("create/body", {"name": "{tag!r}"}, "has a brace"),
        ("create/ok", [], "create.ok must list statuses"),
        ("create/ok", [True], "create.ok must list statuses"),
        ("create/ok", ["4xx"], "create.ok may not hold 400"),
        ("create/path", "keys", "create.path must begin with /"),
        ("create/path", "/keys?a=b", "create.path must begin with /"),
        ("create/path", "/../keys", "create.path must begin with /"),
        ("create/path", "//evil.example/keys", "create.path must begin with /"),
        ("create/path", "/keys/{admin}", r"create.path may not use \{admin\}"),
        ("create/query", {"key": "{admin}"}, r"create.query.key may not use \{admin\}"),
        ("create/query", {"api_key": "sk-1"}, "looks like a credential written out"),
        ("create/headers", {"x-api-key": "sk-1"}, "looks like a credential written out"),
        ("create/headers", {"Authorization": "Bearer x"}, "looks like a credential written out"),
        ("create/headers", {"x-a": "b\r\nhost: evil"}, "one line of plain characters"),
        ("create/headers", {"host": "{admin}"}, "no header that a request may set"),
        ("create/headers", {"x: y\r\nz": "1"}, "no header that a request may set"),
        ("create/headers", {"X-A": "1", "x-a": "2"}, "create.headers has one header twice"),
        ("create/headers", [], "create.headers is needed and must be an object"),
        ("list/body", {}, "list.body has no place in a GET request"),
        ("list/query", {"after": "{cursor}"}, "list goes on either by"),
        ("list/next", "$.next", "list goes on either by"),
        ("list/query", {"a": "{cursor}", "b": "{page}"}, "list goes on either by"),
        ("list/path", "/keys/{role}", r"list.path may not use \{role\}"),
        ("list/headers", {"x": "{value}"}, r"list.headers.x may not use \{value\}"),
        ("validate/headers", {}, r"validate must send \{value\}"),
        ("validate/path", "/me/{value}", r"validate.path may not use \{value\}"),
        ("validate/headers", {"x": "{value}{admin}"}, r"may not use \{admin\}"),
        ("validate/method", "DELETE", "validate.method must be one of"),
        ("validate/valid", [401], "validate.valid may not hold 401"),
        ("validate/invalid", [429], "validate.invalid may not hold 429"),
        ("validate/invalid", ["5xx"], "validate.invalid may not hold 500"),
        ("revoke/path", "/keys", r"revoke must send \{id\}"),
        ("revoke/gone", [403], "revoke.gone may not hold 403"),
        ("parameters", ["role", "role"], "parameters must list"),
        ("parameters", ["admin"], "parameters must list"),
        ("parameters", ["Role!"], "parameters must list"),
    ],
)
def test_a_fault_is_named_by_its_place(place, value, words):
    with pytest.raises(Misconfigured, match=words):
        Declaration.parse(json.dumps(changed(place, value)))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"create": {}, "create": {}}', "NaN", "[" * 9999])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(Misconfigured, match="JSON"):
        Declaration.parse(text)


def test_a_body_has_an_end():
    deep = "{tag}"
    for _ in range(9):
        deep = [deep]
    with pytest.raises(Misconfigured, match="levels deep"):
        Declaration.parse(json.dumps(changed("create/body", {"name": deep})))


def test_a_filled_gap_is_not_read_again():
    template = Template.parse("{a}{{a}}{b}", "x", {"a", "b"})
    assert template.fill({"a": "{b}", "b": "{{a}}"}) == "{b}{a}{{a}}"
    assert template.variables == {"a", "b"}
    assert Body.parse({"{a}": "{a}"}, "x", {"a"}).fill({"a": "1"}) == {"{a}": "1"}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("$.a.b", "1"),
        ("$.list[1].id", "two"),
        ("$.list[7].id", ""),
        ("$.list.id", ""),
        ("$.a[0]", ""),
        ("$.yes", ""),
        ("$.a", ""),
        ("$.nothing", ""),
    ],
)
def test_a_path_finds_text_and_whole_numbers_only(path, text):
    document = {"a": {"b": 1}, "list": [{"id": "one"}, {"id": "two"}], "yes": True, "nothing": None}
    assert JsonPath.parse(path, "x").text(document) == text


def test_every_declaration_of_the_docs_is_accepted():
    blocks = DOCS.read_text().split("```json\n")[1:]
    assert len(blocks) >= 2
    for block in blocks:
        Declaration.parse(block.split("```")[0])
        Entry.document(block.split("```")[0])
