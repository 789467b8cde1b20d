from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvault.inventory import naming

WIDE_ROOT = "\uff32\uff2f\uff2f\uff34-\uff4b\uff45\uff59"
CYRILLIC_PAYPAL = "\u0440\u0430\u0443\u0440\u0430l"


@pytest.mark.parametrize(
    "spelling",
    [
        " Root-Key",
        "ROOT-KEY\t",
        "root-key",
        WIDE_ROOT,
    ],
)
def test_r35_names_that_look_alike_are_one_name(spelling):
    assert naming.key_name(spelling) == "root-key"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ab",
        "1abc",
        "-abc",
        "abc-",
        "a--b",
        "a_b",
        "a/b",
        "..",
        "a..b",
        "a\x00b",
        CYRILLIC_PAYPAL,
        "x" * 49,
    ],
)
def test_r35_a_name_that_is_not_plain_is_refused(name):
    with pytest.raises(naming.BadName, match="small letters"):
        naming.key_name(name)


@given(st.text(max_size=60))
def test_r35_a_name_in_its_one_form_stays_as_it_is(text):
    try:
        name = naming.key_name(text)
    except naming.BadName:
        return
    assert naming.key_name(name) == name


def test_hosts_come_from_lines_and_commas_once_each():
    text = "DB.example.com, api.example.com:8443\n*.example.org db.example.com."

    assert naming.hosts(text) == ("*.example.org", "api.example.com:8443", "db.example.com")


@pytest.mark.parametrize(
    "host", ["https://a.com", "a/b", "*", "a.*.com", "-a.com", "a:port", "a b@c"]
)
def test_a_host_with_a_scheme_path_or_stray_wildcard_is_refused(host):
    with pytest.raises(naming.BadName):
        naming.hosts(host)


def test_labels_are_folded_and_sorted():
    assert naming.labels("PII, nightly pii") == ("nightly", "pii")
    with pytest.raises(naming.BadName):
        naming.labels("a=b")
