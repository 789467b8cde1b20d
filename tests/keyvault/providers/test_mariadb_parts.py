"""What the MariaDB provider knows without a server: hashes, settings, and what a check concludes."""

from __future__ import annotations

import pytest

from keyvault.crypto.secret import Secret
from keyvault.providers.mariadb import MariaDB, accounts, preflight, schema


class Telling:
    """A link to a server that gives the same rows to everything."""

    def __init__(self, *rows: tuple) -> None:
        self.rows = list(rows)

    def ask(self, *_):
        return self.rows


def test_the_hash_is_the_one_that_the_server_makes():
    """From MariaDB 10.11: SELECT PASSWORD('pw')."""
    assert accounts.digest(Secret.of("pw")) == "*D821809F681A40A6E379B50D0463EFAE20BDD122"


@pytest.mark.parametrize(
    ("user", "is_ours"),
    [
        ("kv-0123456789abcdef0123456789abcdef-1", True),
        ("kv-0123456789abcdef0123456789abcdef-12", True),
        ("kv-admin-1", False),
        ("root", False),
        ("kv-", False),
        ("kv-x'@'%-1", False),
    ],
)
def test_an_account_is_ours_by_its_name_alone_and_never_the_admins(user, is_ours):
    assert accounts.is_ours(user, admin="kv-admin-1") is is_ours


@pytest.mark.parametrize(
    ("version", "read_only", "words"),
    [
        ("8.0.36", "0", "MySQL"),
        ("9.1.0-commercial", "0", "MySQL"),
        ("10.4.34-MariaDB-log", "0", "older"),
        ("10.11.19-MariaDB-0+deb12u1", "1", "read-only"),
        ("11.8.2-MariaDB", "NO_LOCK", "read-only"),
    ],
)
def test_a_check_names_a_server_that_cannot_do_it(version, read_only, words):
    (found,) = preflight._server(Telling((version, read_only)))
    assert words in found.sentence
    assert found.is_fatal


@pytest.mark.parametrize(("version", "off"), [("10.5.2-MariaDB", 0), ("11.8.2-MariaDB", "OFF")])
def test_a_check_is_content_with_every_server_since(version, off):
    assert list(preflight._server(Telling((version, off)))) == []


def test_what_is_proposed_is_part_of_the_form():
    proposed = MariaDB().propose({"role": "shop_app"}, "billing")
    assert proposed == {"role": "shop_app"}
    assert set(proposed) <= {field.name for field in schema.OPTIONS}
    assert MariaDB().propose({}, "billing") == {}
