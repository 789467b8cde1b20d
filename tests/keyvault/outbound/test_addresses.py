"""Which addresses may be reached, whatever their spelling."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvault.outbound import Allowance, Guard, Refused, Unreachable, canonical, judge

PUBLIC = "93.184.215.14"


def guard(*allowed: str, answers: list[str] | None = None, sockets: tuple[str, ...] = ()) -> Guard:
    return Guard(
        tuple(map(Allowance.parse, allowed)),
        frozenset(sockets),
        resolve=lambda *_: answers or [],
    )


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
    ],
)
def test_r41_an_address_that_is_not_public_is_refused(address):
    with pytest.raises(Refused):
        guard().addresses(address, 443)
    with pytest.raises(Refused):
        guard(answers=[address]).addresses("innocent.example", 443)


@pytest.mark.parametrize(
    "spelling",
    [
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.1",
        "127.0.0.01",
        "0177.0.0.1",
        "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
        "127\u30020\u30020\u30021",
        "localhost\x00.example",
        "a b",
        "",
        ".",
        "-a.example",
        "[::1",
        "user@host",
        "a" * 64 + ".example",
    ],
)
def test_r41_a_spelling_that_parsers_disagree_on_is_refused(spelling):
    with pytest.raises(Refused):
        guard(answers=[PUBLIC]).addresses(spelling, 443)


@pytest.mark.parametrize(
    ("metadata", "allowed"),
    [
        ("169.254.169.254", "169.254.0.0/16:80"),
        ("169.254.169.254", "0.0.0.0/0:80"),
        ("::ffff:169.254.169.254", "::/0:80"),
        ("fd00:ec2::254", "[fd00::/8]:80"),
        ("100.100.100.200", "100.64.0.0/10:80"),
        ("168.63.129.16", "168.63.129.16:80"),
        ("64:ff9b::a9fe:a9fe", "[64:ff9b::/96]:80"),
    ],
)
def test_r41_no_approval_opens_a_metadata_service(metadata, allowed):
    with pytest.raises(Refused, match="never"):
        guard(allowed).addresses(metadata, 80)


def test_r41_one_bad_answer_among_good_ones_refuses_the_name():
    with pytest.raises(Refused):
        guard(answers=[PUBLIC, "127.0.0.1"]).addresses("two-faced.example", 443)


def test_a_public_address_needs_no_approval():
    assert guard(answers=[PUBLIC]).addresses("db.example", 5432) == [PUBLIC]
    assert guard().addresses("2606:4700::1111", 443) == ["2606:4700::1111"]


def test_a_public_address_behind_nat64_stays_as_it_is():
    assert guard().addresses("64:ff9b::5db8:d70e", 443) == ["64:ff9b::5db8:d70e"]


@pytest.mark.parametrize(
    ("allowed", "host", "answer"),
    [
        ("127.0.0.1:5432", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:5432", "::ffff:127.0.0.1", "127.0.0.1"),
        ("10.1.0.0/16:5432", "10.1.2.3", "10.1.2.3"),
        ("[fd12::/16]:5432", "fd12::5", "fd12::5"),
        ("db.internal:5432", "DB.internal.", "10.9.9.9"),
        ("localhost:5432", "localhost", "127.0.0.1"),
    ],
)
def test_an_approved_private_address_is_reached(allowed, host, answer):
    assert guard(allowed, answers=[answer]).addresses(host, 5432) == [answer]


@pytest.mark.parametrize(
    ("allowed", "host", "answer"),
    [
        ("127.0.0.1:5433", "127.0.0.1", "127.0.0.1"),
        ("10.1.0.0/16:5432", "10.2.0.1", "10.2.0.1"),
        ("db.internal:5432", "other.internal", "10.9.9.9"),
        ("db.internal:5432", "db.internal", "127.0.0.1"),
        ("db.internal:5432", "db.internal", "169.254.169.254"),
    ],
)
def test_an_approval_covers_no_more_than_it_says(allowed, host, answer):
    with pytest.raises(Refused):
        guard(allowed, answers=[answer]).addresses(host, 5432)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:0", "host:65536", "host:٣", "a b:1", "10.0.0.1/8:1", ":1"]
)
def test_an_allow_list_entry_that_says_nothing_clear_is_refused(text):
    with pytest.raises(ValueError, match=r"must be written|holds neither"):
        Allowance.parse(text)


def test_r41_a_unix_socket_is_reached_only_where_the_settings_name_it():
    assert guard(sockets=("/run/pg",)).dial("/run/pg", 5432) == "/run/pg"
    for path in ("/run/pg/", "/run/pg/../pg", "/tmp", "/run/pg2"):
        with pytest.raises(Refused):
            guard("10.0.0.0/8:5432", sockets=("/run/pg",)).dial(path, 5432)


def test_a_name_without_an_address_is_unreachable():
    with pytest.raises(Unreachable):
        guard().addresses("nowhere.example", 443)


@given(st.integers(0, 2**32 - 1))
def test_every_way_to_write_an_ipv4_address_is_judged_alike(number):
    plain = IPv4Address(number)
    nat64 = IPv6Address((0x64FF9B << 96) | number)
    verdicts = {_verdict(text) for text in (str(plain), f"::ffff:{plain}", str(nat64))}
    assert len(verdicts) == 1
    assert plain.is_global or verdicts == {False}


@given(st.text(max_size=80))
def test_a_canonical_host_is_plain_and_stays_the_same(text):
    try:
        host = canonical(text)
    except Refused:
        return
    assert host.isascii()
    assert host == canonical(host)


def _verdict(text: str) -> bool:
    try:
        judge(text, 443, text, ())
    except Refused:
        return False
    return True
