"""The fake of OpenAI's server is driven by the vendor's own library, so that its shapes are theirs.

The locked library knows every call that the provider makes. It does not know yet that a key can
end by itself (`expires_in_seconds`, `expires_at`): both are given and read beside its types.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.contracts.vendors.openai_server import MODELS, OpenAIServer
from tests.contracts.vendors.server import serving


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving(OpenAIServer()) as running:
        yield running


@pytest.fixture
def kit(server: OpenAIServer):
    """Return a function that makes the vendor's client with a key, an admin's or another."""
    made = []

    def client(*, admin: str = "", key: str = "sk-none") -> openai.OpenAI:
        made.append(
            openai.OpenAI(
                api_key=key,
                admin_api_key=admin or server.admin,
                base_url=f"{server.url}/v1",
                max_retries=0,
                http_client=httpx.Client(trust_env=False),
            )
        )
        return made[-1]

    yield client
    for one in made:
        one.close()


@pytest.fixture
def project(server):
    return server.add_project()


@pytest.fixture
def account(server, project):
    return server.add_account(project)


def strict(found):
    """Return what the library has read, checked anew against its type: it reads leniently."""
    return type(found).model_validate(found.to_dict(), strict=False)


def test_a_key_is_made_tried_read_and_deleted(kit, server, project, account):
    projects = kit().admin.organization.projects
    before = int(time.time())

    made = projects.service_accounts.api_keys.create(
        account,
        project_id=project.id,
        name="kv-0123-1",
        scopes=["api.model.read"],
        extra_body={"expires_in_seconds": 60},
    )
    assert strict(made).name == "kv-0123-1"
    assert made.object == "organization.project.service_account.api_key"
    assert before + 60 <= made.to_dict()["expires_at"] <= time.time() + 60

    listed = [strict(model) for model in kit(key=made.value).models.list()]
    assert tuple(model.id for model in listed) == MODELS

    read = strict(projects.api_keys.retrieve(made.id, project_id=project.id))
    assert read.owner.type == "service_account"
    assert strict(read.owner.service_account).id == account
    assert read.last_used_at >= before
    assert made.value not in read.to_json()

    gone = strict(projects.api_keys.delete(made.id, project_id=project.id))
    assert (gone.id, gone.deleted) == (made.id, True)
    with pytest.raises(openai.AuthenticationError):
        kit(key=made.value).models.list()


def test_pages_follow_each_other_as_the_library_expects(kit, server, project):
    for number in range(7):
        server.add_person_key(project, f"person {number}")

    found = list(kit().admin.organization.projects.api_keys.list(project.id, limit=3))

    assert [strict(key).name for key in found] == [f"person {n}" for n in reversed(range(7))]
    assert {key.owner.type for key in found} == {"user"}
    assert strict(found[0].owner.user).email == "ann@example.com"
    assert server.asked.count(f"GET /v1/organization/projects/{project.id}/api_keys") == 3


def test_keys_of_owners_without_access_are_listed_only_when_asked_for(
    kit, server, project, account
):
    projects = kit().admin.organization.projects
    made = projects.service_accounts.api_keys.create(account, project_id=project.id, name="x")
    server.without_access.add(account)

    def seen(**more):
        return [(key.id, key.owner_project_access) for key in projects.api_keys.list(**more)]

    assert seen(project_id=project.id) == []
    for access in ("any", "inactive"):
        found = seen(project_id=project.id, owner_project_access=access)
        assert found == [(made.id, "inactive")]


def test_projects_and_their_accounts_are_read(kit, server, project, account):
    projects = kit().admin.organization.projects

    assert strict(projects.retrieve(project.id)).status == "active"
    project.status = "archived"
    assert strict(projects.retrieve(project.id)).archived_at
    assert strict(projects.service_accounts.retrieve(account, project_id=project.id)).id == account
    listed = projects.service_accounts.list(project.id)
    assert [strict(one).id for one in listed] == [account]


def test_refusals_are_the_ones_the_library_knows(kit, server, project, account):
    def create(projects):
        return projects.service_accounts.api_keys.create(account, project_id=project.id)

    with pytest.raises(openai.AuthenticationError) as unknown:
        create(kit(admin="sk-admin-x").admin.organization.projects)
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError):
        create(kit(admin=server.reader).admin.organization.projects)
    with pytest.raises(openai.NotFoundError):
        kit().admin.organization.projects.retrieve("proj_none")
    with pytest.raises(openai.BadRequestError):
        kit().admin.organization.projects.api_keys.list(project.id, limit=101)
    server.limit(retry_after="7")
    with pytest.raises(openai.RateLimitError) as limited:
        create(kit().admin.organization.projects)
    assert limited.value.response.headers["retry-after"] == "7"
    server.fail(503)
    with pytest.raises(openai.InternalServerError):
        create(kit().admin.organization.projects)
    assert project.keys == {}
