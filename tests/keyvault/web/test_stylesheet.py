"""The rules of the interface that a page cannot break without a red test."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.ROOT)
SHEETS = sorted((ROOT / "static" / "css").glob("*.css"))
TEMPLATES = sorted((ROOT / "templates").rglob("*.html")) + sorted(
    (ROOT / "approvals").rglob("*.html")
)
HTMX_2_0_11 = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
AXE_4_14_1 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"

GROUNDS = ("canvas", "surface", "sunken", "hover")
STATES = ("ok", "warn", "bad", "bot")
TEXT_PAIRS = [
    *((text, ground) for text in ("text", "text-2", "text-3", "accent") for ground in GROUNDS),
    *((state, f"{state}-tint") for state in (*STATES, "accent")),
    *((state, "surface") for state in STATES),
    *((state, "sunken") for state in ("ok", "warn", "bad")),
    *((text, "accent-tint") for text in ("text", "text-2", "text-3")),
    ("on-ink", "ink"),
    ("text-3", "raised"),
    *(("on-solid", solid) for solid in ("ok-solid", "accent-solid", "past")),
]
GRAPHIC_PAIRS = [
    *((f"{state}-solid", "surface") for state in (*STATES, "accent")),
    ("line-input", "surface"),
    ("focus", "surface"),
    ("line-input", "sunken"),
    ("focus", "canvas"),
    ("heat-3", "surface"),
    ("heat-4", "surface"),
    ("accent-solid", "accent-tint"),
]


def _tokens():
    css = (ROOT / "static" / "css" / "tokens.css").read_text()
    found = re.findall(r"--([\w-]+):\s*light-dark\((#[0-9A-Fa-f]{6}),\s*(#[0-9A-Fa-f]{6})\)", css)
    return {name: (light, dark) for name, light, dark in found}


def _luminance(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one, other):
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "ground", "least"),
    [(*pair, 4.5) for pair in TEXT_PAIRS] + [(*pair, 3.0) for pair in GRAPHIC_PAIRS],
)
def test_every_pair_of_tokens_is_readable(front, ground, least, theme):
    tokens = _tokens()

    assert _contrast(tokens[front][theme], tokens[ground][theme]) >= least


def test_forty_eight_pairs_are_checked():
    assert len(TEXT_PAIRS) + len(GRAPHIC_PAIRS) == 48


def test_the_stylesheet_fits_its_budget():
    whole = b"".join(sheet.read_bytes() for sheet in SHEETS)

    assert len(gzip.compress(whole, 9)) < 12 * 1024
    assert all(sheet.read_text().count("\n") < 300 for sheet in SHEETS)


def test_the_scripts_fit_their_budget():
    scripts = list((ROOT / "static" / "js").glob("*.js"))
    vendored = (ROOT / "static" / "vendor" / "htmx.min.js").read_bytes()
    whole = vendored + b"".join(script.read_bytes() for script in scripts)

    assert len(gzip.compress(whole, 9)) < 26 * 1024
    assert all(script.stat().st_size < 2048 for script in scripts)


def test_no_script_builds_markup_or_code_from_text():
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|\.style\b"
    )

    for script in (ROOT / "static" / "js").glob("*.js"):
        assert not forbidden.search(script.read_text()), script.name


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        ("static/vendor/htmx.min.js", HTMX_2_0_11),
        ("tests/browser/vendor/axe.min.js", AXE_4_14_1),
    ],
)
def test_vendored_files_are_those_of_npm(path, digest):
    assert hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == digest


def test_the_layers_are_ordered_before_anything_uses_them():
    first = (ROOT / "static" / "css" / "tokens.css").read_text()
    order = re.search(r"@layer ([\w, ]+);", first).group(1).split(", ")

    assert order.index("responsive") > order.index("pages") > order.index("components")
    for sheet in SHEETS:
        assert set(re.findall(r"@layer (\w+) \{", sheet.read_text())) <= set(order)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_templates_keep_to_the_content_policy(template):
    text = template.read_text()

    assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:", text, re.IGNORECASE)
    assert not re.search(r"hx-on|hx-vars|hx-vals=.js:|hx-headers=.js:|hx-boost", text)
    assert not re.search(r'hx-trigger="[^"]*\[', text), "trigger filters need eval"
    assert not re.search(r"\|safe\b|autoescape off", text)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_drawing_is_named_or_hidden(template):
    for tag in re.findall(r"<svg\b(?:\{%.*?%\}|[^>])*>", template.read_text()):
        named = 'role="img"' in tag and "aria-label" in tag
        assert named or 'aria-hidden="true"' in tag, tag
