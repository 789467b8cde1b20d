"""A secret never shows itself, whatever Python does with it."""

import copy
import json
import logging
import pickle
import traceback

import pytest

from keyvault.crypto.secret import HIDDEN, Secret, Spent

CANARY = "canary-7f1c-value"


@pytest.fixture
def secret():
    return Secret.of(CANARY)


def test_reveal_returns_the_bytes(secret):
    assert secret.reveal() == CANARY.encode()


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda value: f"{value}",
        lambda value: f"{value!r:>20}",
        lambda value: f"{value:>30}",
        lambda value: "%s %r" % (value, value),  # noqa: UP031
        lambda value: repr([value, {"a": value}]),
    ],
)
def test_r1_no_way_of_printing_shows_it(secret, show):
    assert CANARY not in show(secret)
    assert HIDDEN in show(secret)


@pytest.mark.parametrize(
    "take",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        hash,
        bytes,
        vars,
        list,
        lambda value: value.__getstate__(),
        lambda value: value + "x",
    ],
)
def test_r1_no_way_of_copying_takes_it(secret, take):
    with pytest.raises(TypeError) as caught:
        take(secret)

    assert CANARY not in str(caught.value)


def test_r9_logs_and_tracebacks_do_not_show_it(secret, caplog):
    def fail(material):
        raise ValueError("failed with %s" % material)  # noqa: UP031

    try:
        fail(secret)
    except ValueError as error:
        logging.getLogger(__name__).exception("%s %r", secret, secret)
        shown = "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )

    assert CANARY not in caplog.text + shown


def test_equality_is_by_value_and_only_between_secrets(secret):
    assert secret == Secret.of(CANARY)
    assert secret != Secret.of("other")
    assert secret != CANARY


def test_zero_overwrites_the_buffer_that_it_owns():
    buffer = bytearray(CANARY.encode())

    with Secret.adopt(buffer) as secret:
        assert secret.reveal() == CANARY.encode()

    assert buffer == bytes(len(CANARY))
    with pytest.raises(Spent):
        secret.reveal()
    secret.zero()


def test_a_secret_keeps_its_own_copy():
    buffer = bytearray(b"value")
    secret = Secret(buffer)

    buffer[:] = b"other"

    assert secret.reveal() == b"value"
