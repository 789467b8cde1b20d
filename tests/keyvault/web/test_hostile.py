import unicodedata

import pytest
from django.template import engines
from hypothesis import given
from hypothesis import strategies as st

from keyvault.web import hostile


def _render(text):
    return engines["django"].from_string("{% hostile text %}").render({"text": text})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pay\u202eexe.gpj", "U+202E"),
        ("pay\u2066load", "U+2066"),
        ("pay\u200bload", "U+200B"),
        ("pay\ufeffload", "U+FEFF"),
        ("pay\u00adload", "U+00AD"),
        ("\x1b[31mred", "U+001B"),
        ("tag\U000e0041", "U+E0041"),
        ("blank\u3164", "U+3164"),
        ("dark\u2028line", "U+2028"),
        ("heart\ufe0f", "U+FE0F"),
    ],
)
def test_r22_characters_that_hide_are_written_out(text, name):
    page = _render(text)

    assert name in page
    assert not any(hostile.is_hidden(character) for character in page)


def test_r22_markup_is_text():
    page = _render("<script>alert(1)</script> <img src=x onerror=alert(1)> &lt;")

    assert "<script" not in page
    assert "<img" not in page
    assert "&amp;lt;" in page


def test_r22_a_markdown_link_stays_text():
    assert "<a" not in _render("[click](javascript:alert(1))")


def test_r22_a_megabyte_is_cut_and_the_rest_is_counted():
    page = _render("x" * 1_000_000)

    assert len(page) < 5000
    assert "996000 more characters are not shown" in page


def test_r22_htmx_is_off_inside():
    assert "hx-disable" in _render("x")


def test_lines_and_tabs_stay():
    assert "a\nb\tc" in _render("a\r\nb\tc")


@given(st.text(max_size=200))
def test_r22_nothing_hides_in_any_text(text):
    runs = hostile.shown(text).runs

    for run in runs:
        if not run.hidden:
            assert not any(
                unicodedata.category(c) in {"Cf", "Co", "Cn"} or (c < " " and c not in "\n\t")
                for c in run.text
            )


@given(st.text(alphabet="abc \u200b\u202e", max_size=60))
def test_no_visible_character_is_lost(text):
    visible = "".join(run.text for run in hostile.shown(text).runs if not run.hidden)

    assert visible == text.replace("\u200b", "").replace("\u202e", "")
