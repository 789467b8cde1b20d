"""The fake of Anthropic's server is driven by the vendor's own library, so that its shapes are theirs.

The locked library lists models and has no Admin API; its later versions have one
(`client.organization.api_keys`). Those calls go through the library's generic methods here, with
its pages, headers and errors, and the types below repeat what the later versions declare.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import anthropic
import httpx
import pytest
from anthropic import BaseModel
from anthropic.pagination import SyncPage

from tests.contracts.vendors.anthropic_server import MODELS, AnthropicServer
from tests.contracts.vendors.server import serving

KEYS = "/v1/organizations/api_keys"


class Scope(BaseModel):
    type: Literal["workspace", "organization"]
    workspace_id: str | None = None


class Creator(BaseModel):
    id: str
    type: Literal["user", "service_account"]


class ApiKey(BaseModel):
    id: str
    created_at: datetime
    created_by: Creator | None
    expires_at: datetime | None
    name: str
    partial_key_hint: str | None
    principal: dict[str, str] | None
    scope: Scope
    status: Literal["active", "archived", "expired", "inactive"]
    type: Literal["api_key"]


@pytest.fixture
def server() -> Iterator[AnthropicServer]:
    with serving(AnthropicServer()) as running:
        yield running


@pytest.fixture
def kit(server: AnthropicServer):
    """Return a function that makes the vendor's client with a key, the admin's by default."""
    made = []

    def client(key: str = "") -> anthropic.Anthropic:
        made.append(
            anthropic.Anthropic(
                api_key=key or server.admin,
                base_url=server.url,
                max_retries=0,
                http_client=httpx.Client(trust_env=False),
            )
        )
        return made[-1]

    yield client
    for one in made:
        one.close()


def strict(found):
    """Return what the library has read, checked anew against its type: it reads leniently."""
    return type(found).model_validate(found.to_dict())


def set_status(client: anthropic.Anthropic, key_id: str, status: str) -> ApiKey:
    return client.post(f"{KEYS}/{key_id}", body={"status": status}, cast_to=ApiKey)


def test_models_are_listed_with_a_key_that_is_active(kit, server):
    key_id, value = server.make_key("kv-0123-1")

    assert tuple(strict(model).id for model in kit(value).models.list(limit=2)) == MODELS
    assert server.asked.count("GET /v1/models") == 2

    for status in ("inactive", "archived"):
        assert strict(set_status(kit(), key_id, status)).status == status
        with pytest.raises(anthropic.AuthenticationError):
            kit(value).models.list()


def test_a_key_is_switched_off_and_on_and_never_comes_back_from_the_archive(kit, server):
    key_id, value = server.make_key("kv-0123-1")
    set_status(kit(), key_id, "inactive")
    set_status(kit(), key_id, "active")
    assert kit(value).models.list().data

    set_status(kit(), key_id, "archived")
    with pytest.raises(anthropic.BadRequestError):
        set_status(kit(), key_id, "active")
    assert kit().get(f"{KEYS}/{key_id}", cast_to=ApiKey).status == "archived"


def test_keys_are_listed_page_by_page_and_by_workspace(kit, server):
    one, two = server.add_workspace(), server.add_workspace()
    for number in range(5):
        server.make_key(f"first {number}", one)
    server.make_key("second", two)

    def names(**query):
        options = {"params": {"limit": 2, **query}}
        pages = kit().get_api_list(KEYS, model=ApiKey, page=SyncPage[ApiKey], options=options)
        return [strict(key).name for key in pages]

    assert names(workspace_id=one) == [f"first {n}" for n in reversed(range(5))]
    assert len(names()) == 6
    assert names(status="archived") == []


def test_a_hint_shows_both_ends_and_the_value_is_shown_once(kit, server):
    key_id, value = server.make_key("kv-0123-1")

    found = strict(kit().get(f"{KEYS}/{key_id}", cast_to=ApiKey))

    start, end = found.partial_key_hint.split("...")
    assert value.startswith(start)
    assert value.endswith(end)
    assert value not in found.to_json()


def test_refusals_are_the_ones_the_library_knows(kit, server):
    _, value = server.make_key("ordinary")
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        kit("sk-ant-x").get(f"{KEYS}/apikey_1", cast_to=ApiKey)
    assert unknown.value.body["error"]["type"] == "authentication_error"
    with pytest.raises(anthropic.PermissionDeniedError):
        kit(value).get(f"{KEYS}/apikey_1", cast_to=ApiKey)
    with pytest.raises(anthropic.NotFoundError):
        kit().get(f"{KEYS}/apikey_none", cast_to=ApiKey)
    server.limit(retry_after="7")
    with pytest.raises(anthropic.RateLimitError) as limited:
        kit(value).models.list()
    assert limited.value.response.headers["retry-after"] == "7"
    server.fail(529)
    with pytest.raises(anthropic.APIStatusError) as busy:
        kit(value).models.list()
    assert (busy.value.status_code, busy.value.type) == (529, "overloaded_error")
