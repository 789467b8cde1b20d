"""Which claims of an outside token must be pinned, and whether a token fits them (pure).

A binding says: whoever holds a token with exactly these claims is this agent.
What is pinned must therefore name one workload for good. Names can be given
up and taken by somebody else, so the ids behind them are demanded; wildcards
do not exist; and what runs on a pull request runs what a stranger wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MOST_CLAIMS, MOST_CHARS, MOST_DEPTH = 20, 300, 4

Path = tuple[str, ...]

# The kinds are those of models.TrustKind; a test compares them.
REQUIRED: Mapping[str, tuple[Path, ...]] = {
    "github": (
        ("repository_id",),
        ("repository_owner_id",),
        ("environment",),
        ("job_workflow_ref",),
    ),
    "gitlab": (
        ("project_id",),
        ("namespace_id",),
        ("ref",),
        ("ref_protected",),
        ("environment",),
    ),
    "kubernetes": (
        ("sub",),
        ("kubernetes.io", "namespace"),
        ("kubernetes.io", "serviceaccount", "uid"),
    ),
    "oidc": (("iss",), ("sub",)),
}
_DIGITS: Mapping[str, tuple[str, ...]] = {
    "github": ("repository_id", "repository_owner_id"),
    "gitlab": ("project_id", "namespace_id"),
}
# A name that can change hands, and the claim that cannot.
_MUTABLE = {
    "repository": "repository_id",
    "repository_owner": "repository_owner_id",
    "project_path": "project_id",
    "namespace_path": "namespace_id",
    "email": "sub",
    "preferred_username": "sub",
}
_CHANGING = frozenset({"aud", "exp", "iat", "nbf", "jti", "run_id", "run_number", "job_id", "sha"})
_WORKFLOW = re.compile(r"[^@\s]+/[^@\s]+/[^@\s]+@(?:refs/(?:heads|tags)/\S+|[0-9a-f]{40})")
_OF_STRANGERS = {
    "event_name": re.compile(r"pull_request.*"),
    "pipeline_source": re.compile(r"(?:external_)?(?:merge|pull)_request_event"),
    "ref": re.compile(r"refs/(?:pull|merge-requests)/.*"),
    "ref_path": re.compile(r"refs/merge-requests/.*"),
    "job_workflow_ref": re.compile(r".*@refs/pull/.*"),
    "sub": re.compile(r"repo:.*:pull_request"),
}
_ACCOUNT = "system:serviceaccount:"


def lint(claims: Mapping[str, Any], kind: str) -> list[str]:
    """Return what is wrong with the claims of a binding, a sentence each; [] when nothing is."""
    pinned = dict(_leaves(claims))
    problems = [f"Pin {_shown(path)}." for path in REQUIRED[kind] if path not in pinned]
    if len(pinned) > MOST_CLAIMS:
        problems.append(f"Pin at most {MOST_CLAIMS} claims.")
    for path, value in pinned.items():
        problems += _lint_value(_shown(path), value)
    for name, anchor in _MUTABLE.items():
        if (name,) in pinned and (anchor,) not in pinned:
            problems.append(f"{name} can change hands: pin {anchor} as well.")
    problems += [
        f"{name} differs in every token: leave it out." for name in _CHANGING & set(claims)
    ]
    if is_of_stranger(claims):
        problems.append("This is the token of a pull request, which runs what a stranger wrote.")
    return problems + _lint_kind(claims, kind)


def matches(pinned: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Say whether a token's claims hold everything pinned, exactly: same type, same value."""
    return bool(pinned) and _holds(pinned, found)


def is_of_stranger(claims: Mapping[str, Any]) -> bool:
    """Say whether claims tell of a run that a pull request started: it runs its opener's code."""
    return any(
        isinstance(claims.get(name), str) and pattern.fullmatch(claims[name])
        for name, pattern in _OF_STRANGERS.items()
    )


def _holds(pinned: object, found: object) -> bool:
    if isinstance(pinned, Mapping):
        return isinstance(found, Mapping) and all(
            name in found and _holds(value, found[name]) for name, value in pinned.items()
        )
    # 1 == True and 1 == 1.0 in Python; in a claim they are different things.
    return type(pinned) is type(found) and pinned == found


def _leaves(claims: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, value in claims.items():
        here = (*path, name)
        is_branch = isinstance(value, Mapping) and value and len(here) < MOST_DEPTH
        yield from _leaves(value, here) if is_branch else ((here, value),)


def _shown(path: Path) -> str:
    return " / ".join(path)


def _lint_value(name: str, value: object) -> list[str]:
    if isinstance(value, int):
        return []
    if not isinstance(value, str) or not value.strip():
        return [f"{name} must be one text or whole number, and not empty."]
    if "*" in value:
        return [f"{name} holds a wildcard. Every claim is compared exactly: write it in full."]
    if value != value.strip() or not value.isprintable() or len(value) > MOST_CHARS:
        return [f"{name} must be plain text of at most {MOST_CHARS} characters."]
    return []


def _lint_kind(claims: Mapping[str, Any], kind: str) -> list[str]:
    """Return what the form of an issuer's claims tells: a pin that can never match, mostly."""
    problems = [
        f"{name} is written in digits, as text."
        for name in _DIGITS.get(kind, ())
        if name in claims and not _is_number_text(claims[name])
    ]
    if kind == "github" and not _WORKFLOW.fullmatch(str(claims.get("job_workflow_ref"))):
        problems.append(
            "job_workflow_ref is written owner/repository/path@refs/heads/branch, "
            "or with a tag or a commit after the @."
        )
    if kind == "gitlab" and claims.get("ref_protected") != "true":
        problems.append('ref_protected must be "true": anybody may push to other branches.')
    if kind == "kubernetes":
        problems += _lint_account(claims)
    return problems


def _is_number_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit()


def _lint_account(claims: Mapping[str, Any]) -> list[str]:
    place = claims.get("kubernetes.io")
    namespace = place.get("namespace") if isinstance(place, Mapping) else None
    subject = str(claims.get("sub"))
    if (
        subject.startswith(f"{_ACCOUNT}{namespace}:")
        and subject.count(":") == _ACCOUNT.count(":") + 1
    ):
        return []
    return ["sub is written system:serviceaccount:NAMESPACE:NAME, with the namespace pinned."]
