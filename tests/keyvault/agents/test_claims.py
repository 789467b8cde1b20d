"""What may be pinned, and that only an exact token fits."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvault.agents import claims
from keyvault.agents.models import TrustKind
from keyvault.agents.terms import Terms
from tests.keyvault.agents.local_issuer import GITHUB, GITLAB, KUBERNETES

OIDC = {"iss": "https://id.example", "sub": "spiffe://example.org/refund"}
RIGHT = {"github": GITHUB, "gitlab": GITLAB, "kubernetes": KUBERNETES, "oidc": OIDC}
SCALARS = st.one_of(st.text(max_size=8), st.integers(-3, 3), st.booleans(), st.none())
TREES = st.recursive(
    SCALARS, lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(st.text(max_size=3), TREES, max_size=4)


def test_every_kind_of_trust_has_its_rules():
    assert set(claims.REQUIRED) == set(TrustKind.values) == set(RIGHT)


@pytest.mark.parametrize("kind", RIGHT)
def test_the_right_claims_of_each_kind_pass(kind):
    assert claims.lint(RIGHT[kind], kind) == []


@pytest.mark.parametrize(
    ("kind", "path"), [(kind, path) for kind, paths in claims.REQUIRED.items() for path in paths]
)
def test_each_required_claim_is_missed(kind, path):
    pinned = copy.deepcopy(RIGHT[kind])
    place = pinned
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]

    assert f"Pin {' / '.join(path)}." in claims.lint(pinned, kind)


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        ("github", {"repository_id": "*"}, "wildcard"),
        ("github", {"environment": "prod*"}, "wildcard"),
        ("github", {"environment": ""}, "not empty"),
        ("github", {"environment": " "}, "not empty"),
        ("github", {"environment": None}, "one text or whole number"),
        ("github", {"environment": ["production"]}, "one text or whole number"),
        ("github", {"environment": 1.5}, "one text or whole number"),
        ("github", {"environment": {}}, "one text or whole number"),
        ("github", {"environment": " production"}, "plain text"),
        ("github", {"environment": "a\x00b"}, "plain text"),
        ("github", {"environment": "p" * 301}, "plain text"),
        ("github", {"repository_id": 74}, "digits"),
        ("github", {"repository_id": "octo"}, "digits"),
        ("github", {"job_workflow_ref": "octo/pay/.github/workflows/deploy.yml"}, "@refs/heads"),
        (
            "github",
            {"job_workflow_ref": "octo/pay/.github/workflows/deploy.yml@refs/pull/1/merge"},
            "pull request",
        ),
        ("github", {"event_name": "pull_request_target"}, "pull request"),
        ("github", {"sub": "repo:octo/pay:pull_request"}, "pull request"),
        ("github", {"ref": "refs/pull/7/merge"}, "pull request"),
        ("github", {"run_id": "1"}, "differs in every token"),
        ("github", {"aud": "x"}, "differs in every token"),
        ("github", {f"claim{n}": "x" for n in range(20)}, "at most 20"),
        ("gitlab", {"ref_protected": "false"}, "ref_protected"),
        ("gitlab", {"ref_protected": True}, "ref_protected"),
        ("gitlab", {"pipeline_source": "merge_request_event"}, "pull request"),
        ("kubernetes", {"sub": "system:serviceaccount:other:refund"}, "NAMESPACE"),
        ("kubernetes", {"sub": "system:serviceaccount:payments:refund:x"}, "NAMESPACE"),
        ("oidc", {"repository": "octo/pay"}, "pin repository_id as well"),
        ("gitlab", {"project_path": "octo/pay", "project_id": None}, "one text"),
    ],
)
def test_what_does_not_name_one_workload_for_good_is_refused(kind, changes, sentence):
    found = claims.lint({**RIGHT[kind], **changes}, kind)

    assert any(sentence in problem for problem in found), found


def test_names_alone_are_refused_for_any_issuer():
    found = claims.lint({"iss": "https://id.example", "email": "bot@example.com"}, "oidc")

    assert "Pin sub." in found
    assert "email can change hands: pin sub as well." in found


def _grafted(pinned, extra):
    """Return a token that holds the pins, and more beside each of them."""
    if not isinstance(pinned, dict):
        return pinned
    return {**extra, **{name: _grafted(value, extra) for name, value in pinned.items()}}


@given(pinned=OBJECTS.filter(bool), extra=OBJECTS)
def test_a_token_that_holds_every_pin_fits_whatever_else_it_says(pinned, extra):
    assert claims.matches(pinned, _grafted(pinned, extra))


def _paths(tree, path=()):
    for name, value in tree.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from _paths(value, (*path, name))


@given(data=st.data(), pinned=OBJECTS.filter(bool), other=TREES)
def test_a_token_that_differs_in_one_pin_does_not_fit(data, pinned, other):
    path = data.draw(st.sampled_from(list(_paths(pinned))))
    token = copy.deepcopy(pinned)
    place = token
    for name in path[:-1]:
        place = place[name]
    old = place[path[-1]]
    if data.draw(st.booleans()):
        del place[path[-1]]
        assert not claims.matches(pinned, token)
    else:
        place[path[-1]] = other
        fits = (old == {} and isinstance(other, dict)) or _grown_from(old, other)
        assert claims.matches(pinned, token) == fits


def _grown_from(old, new):
    """Say, in other words than the code's, whether `new` holds all that `old` does."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and _grown_from(value, new[name]) for name, value in old.items())
    return repr(old) == repr(new)


@given(found=OBJECTS)
def test_pins_of_nothing_fit_no_token(found):
    assert not claims.matches({}, found)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (0, False), ("1", 1), ("true", True), ("é", "e\u0301"), ("a", "A")],
)
def test_likeness_is_not_equality(one, other):
    assert not claims.matches({"sub": one}, {"sub": other})
    assert not claims.matches({"sub": other}, {"sub": one})


GOOD = Terms("oidc", "https://id.example", "https://kv.example")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"issuer": "http://id.example"}, "https://"),
        ({"issuer": "http://127.0.0.1:9"}, "https://"),
        ({"issuer": "https://id.example/?a=b"}, "query"),
        ({"issuer": "https://id.example/#a"}, "fragment"),
        ({"issuer": "https://me@id.example"}, "user"),
        ({"issuer": "https://*.example"}, "no plain host"),
        ({"issuer": "https://id.example/*"}, "wildcard"),
        ({"issuer": "https://0x7f.1"}, "no plain host"),
        ({"issuer": "id.example"}, "no plain host"),
        ({"issuer": ""}, "no plain host"),
        ({"issuer": "https://id.example/\n"}, "plain address"),
        ({"issuer": "https://id.example/" + "a" * 300}, "plain address"),
        ({"issuer": "https://token.actions.githubusercontent.com"}, "of the kind github"),
        ({"issuer": "https://gitlab.com"}, "of the kind gitlab"),
        ({"jwks_url": "http://id.example/keys"}, "https://"),
        ({"audience": ""}, "audience"),
        ({"audience": "*"}, "audience"),
        ({"audience": "sts.amazonaws.com"}, "Other services"),
        ({"audience": "https://github.com/octo"}, "Other services"),
        ({"allowed_hosts": ("http://10.0.0.1:80",)}, "only loopback"),
        ({"allowed_hosts": ("http://0.0.0.0/0:80",)}, "only loopback"),
        ({"allowed_hosts": ("http://id.example:80",)}, "only loopback"),
        ({"allowed_hosts": ("nonsense",)}, "host:port"),
        ({"allowed_hosts": ("10.0.0.1:443",) * 11}, "at most 10"),
    ],
)
def test_terms_that_cannot_be_trusted_say_why(changes, sentence):
    from dataclasses import replace

    found = replace(GOOD, **changes).problems()

    assert any(sentence in problem for problem in found), found


def test_plain_http_is_for_a_loopback_that_the_terms_name():
    assert GOOD.problems() == []
    for url in ("http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"):
        assert Terms("oidc", url, "https://kv.example", "", (url,)).problems() == [], url
        other = url.replace("9000", "9001")
        assert Terms("oidc", other, "https://kv.example", "", (url,)).problems()
