"""A test run of both servers of a demo: asked in the form, agreed to, done by the worker, shown."""

from __future__ import annotations

import pytest

from tests.flows.visitors import await_state, visitor

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("slug", ["northwind-db", "northwind-cache"])
def test_a_throwaway_credential_is_made_and_ended_at_a_real_server(stack, slug):
    settings = {"option_keys": "keyvault-test:*"} if slug == "northwind-cache" else {}
    with visitor(stack, "frank") as frank, visitor(stack, "grace") as grace:
        asked = frank.send(
            f"/connections/{slug}/try/", "reason", reason="Before the first key.", **settings
        )
        request = asked.url.path
        assert request.startswith("/approvals/"), asked.text
        assert grace.decide(request).status_code == 200
        await_state(stack, request, "done")

        page = frank.get(f"/connections/{slug}/").text

    assert "A throwaway credential was made, tried and ended" in page
    assert "Nothing of it is listed any more" in page
    assert "It may have left something behind" not in page
