"""Configuration: a wrong value stops the start with a sentence that says the mend."""

from __future__ import annotations

import pytest

from keyvault import environment
from keyvault.environment import BadSetting


@pytest.mark.parametrize(
    "address",
    [
        "redis://localhost:6379/0",
        "redis://127.0.0.1/0",
        "redis+socket://:secret@/run/valkey.sock",
        "rediss://:secret@queue.example:6379/0",
    ],
)
def test_a_queue_server_that_nobody_else_reads_is_taken(address):
    assert environment.queue_server(address) == address


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("redis://queue.example:6379/0", "without a password"),
        ("rediss://queue.example:6379/0", "without a password"),
        ("redis://:secret@queue.example:6379/0", "without TLS"),
        ("amqp://guest@queue.example", "must begin with redis"),
    ],
)
def test_r48_a_queue_server_that_others_could_read_is_refused(address, words):
    with pytest.raises(BadSetting, match=words) as refusal:
        environment.queue_server(address)
    assert "secret" not in str(refusal.value)


def test_a_value_may_come_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "value").write_text("from the file\n")
    monkeypatch.setenv("KEYVAULT_X_FILE", str(tmp_path / "value"))

    assert environment.text("KEYVAULT_X") == "from the file"


def test_a_file_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("KEYVAULT_X_FILE", "/nowhere/value")

    with pytest.raises(BadSetting, match="/nowhere/value, which cannot be read"):
        environment.text("KEYVAULT_X")


@pytest.mark.parametrize("value", ["0", "3601", "-1", "ten", "1e3", "٣"])
def test_a_number_outside_its_bounds_is_refused(monkeypatch, value):
    monkeypatch.setenv("KEYVAULT_X", value)

    with pytest.raises(BadSetting, match="whole number from 1 to 3600"):
        environment.integer("KEYVAULT_X", 60, low=1, high=3600)


def test_an_unknown_word_for_yes_is_refused(monkeypatch):
    monkeypatch.setenv("KEYVAULT_X", "maybe")

    with pytest.raises(BadSetting, match="true or false"):
        environment.boolean("KEYVAULT_X", default=False)


def test_a_network_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("KEYVAULT_X", "10.0.0.0/8 everywhere")

    with pytest.raises(BadSetting, match="'everywhere', which is no network"):
        environment.networks("KEYVAULT_X", "")


@pytest.mark.parametrize("path", ["etc", "/srv/../etc", "/srv//x", "/srv/", "/", "//srv", "./x"])
def test_a_directory_with_more_than_one_spelling_is_refused(monkeypatch, path):
    monkeypatch.setenv("KEYVAULT_SAMPLE", f"/srv/keys {path}")
    with pytest.raises(BadSetting, match="absolute paths"):
        environment.directories("KEYVAULT_SAMPLE", "")
    monkeypatch.setenv("KEYVAULT_SAMPLE", "/srv/keys,/run/keys")
    assert environment.directories("KEYVAULT_SAMPLE", "") == ["/srv/keys", "/run/keys"]


@pytest.mark.parametrize("address", ["sqlite:///db", "mysql://host/db", ""])
def test_only_postgresql_is_taken(monkeypatch, address):
    monkeypatch.setenv("KEYVAULT_X", address)

    with pytest.raises(BadSetting):
        environment.database("KEYVAULT_X")


def test_a_socket_directory_goes_into_the_query(monkeypatch):
    monkeypatch.setenv("KEYVAULT_X", "postgresql://kv%40x:p%2Fw@/name?host=%2Frun%2Fpg&port=5433")

    found = environment.database("KEYVAULT_X")

    assert (found["USER"], found["PASSWORD"]) == ("kv@x", "p/w")
    assert (found["HOST"], found["PORT"], found["NAME"]) == ("/run/pg", "5433", "name")
