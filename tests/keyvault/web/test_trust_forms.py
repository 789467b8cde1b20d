"""The form that binds a job to an agent: whatever is typed, it answers with a page."""

from __future__ import annotations

import pytest
from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from approvals.models import Request
from keyvault.agents import trusts
from keyvault.agents.terms import Terms
from tests.keyvault.actions import conftest as actions
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db
_registry, fake, house = actions._registry, actions.fake, actions.house

ADDRESS = "/agents/refund-bot/jobs/new/"
TYPED = {
    "trust": "cluster",
    "reason": "It deploys.",
    "claim_0": "system:serviceaccount:shop:deploy",
    "claim_1": "shop",
    "claim_2": "6f1c",
}


@pytest.fixture
def browser(house, client_for):
    """Return alice's browser; a trust in a cluster is in force, and she has an agent."""
    builders.agent(house.cast)
    terms = Terms("kubernetes", "https://cluster.example.com", "https://kv.example.com")
    with transaction.atomic():
        trusts.create(
            slug="cluster", title="Cluster", terms=terms, actor=builders.TESTS, now=house.now
        )
    return client_for(house.cast.alice)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("kubernetes.io: x", "kubernetes.io has a field of its own above."),
        ("sub: system:serviceaccount:shop:other", "sub has a field of its own above."),
        ("team: a\nteam: b", "team is named twice."),
        ("team", "Write each claim as name: value, one a line."),
        (": x", "Write each claim as name: value, one a line."),
    ],
)
def test_a_further_claim_that_cannot_be_is_refused_in_words(browser, more, sentence):
    answer = browser.post(ADDRESS, TYPED | {"more": more})

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not Request.objects.exists()


def test_further_claims_are_asked_for_with_the_others(browser):
    browser.post(ADDRESS, TYPED | {"more": "team: a\n\n url : https://x:1 "})

    assert Request.objects.get().payload["claims"] == {
        "kubernetes.io": {"namespace": "shop", "serviceaccount": {"uid": "6f1c"}},
        "sub": "system:serviceaccount:shop:deploy",
        "team": "a",
        "url": "https://x:1",
    }


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(more=st.text(max_size=200) | st.lists(st.from_regex(r"[^:]{0,9}:.{0,9}")).map("\n".join))
@example(more="kubernetes.io: x")
@example(more="kubernetes.io: x\nkubernetes.io: y")
def test_no_text_in_the_field_breaks_the_page(browser, more):
    assert browser.post(ADDRESS, TYPED | {"more": more}).status_code in {302, 422}
