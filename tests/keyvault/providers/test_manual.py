"""Credentials by hand: the same protocol, with a person in the place of the program."""

from __future__ import annotations

import pytest

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.plugins.context import Call, call
from keyvault.providers.base import (
    Adopts,
    Instructs,
    Misconfigured,
    RemoteKey,
    Shape,
    Unsupported,
    Verdict,
)
from keyvault.providers.manual import Manual


def context(**config: str) -> Call:
    return call(outbound.Guard(), timeout_s=5, config=config, options={}, admin={})


CTX = context(where="vendor.example/keys")


def test_a_person_creates_and_revokes():
    manual = Manual()
    assert isinstance(manual, Adopts)
    assert isinstance(manual, Instructs)
    assert manual.capabilities(CTX).shape is Shape.MANUAL
    with pytest.raises(Unsupported, match=r"vendor\.example/keys"):
        manual.create(CTX, manual.prepare(CTX, "op", 1, None))
    with pytest.raises(Unsupported):
        manual.revoke(CTX, RemoteKey("kv-op-1"), kill_sessions=True)


def test_a_pasted_value_is_taken_and_cannot_be_judged():
    manual, attempt = Manual(), Manual().prepare(CTX, "op", 1, None)
    issued = manual.adopt(CTX, attempt, {"value": Secret.of("sk-canary")})
    assert issued.remote_id == issued.tag == "kv-op-1"
    assert issued.material["value"].reveal() == b"sk-canary"
    assert "canary" not in str(issued.to_json()) + repr(issued)
    assert manual.validate(CTX, issued).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "material", [{}, {"value": Secret.of("")}, {"value": Secret.of("x" * 65_537)}]
)
def test_an_unusable_value_is_refused(material):
    with pytest.raises(Misconfigured):
        Manual().adopt(CTX, Manual().prepare(CTX, "op", 1, None), material)


def test_the_connections_own_steps_come_first():
    ctx = context(where="x", revoke_steps="Open the page.\n\n Press end. ")
    assert Manual().instructions(ctx, "revoke") == ("Open the page.", "Press end.")
    assert "at x" in Manual().instructions(ctx, "create")[0]


def test_a_connection_must_say_where_to_go():
    assert Manual().check(context(where=" "))
    assert Manual().check(CTX) == []
    assert Manual().inventory(CTX, None).items == ()
