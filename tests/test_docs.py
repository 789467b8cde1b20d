"""The documentation is compared with the code: a page that lies fails the build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keyvault.api import document, problems, urls
from keyvault.audit.events import EVENTS

ROOT = Path(__file__).resolve().parent.parent
READERS = re.compile(
    r'\b(?:text|secret|boolean|integer|words|networks|directories|database)\(\s*"([A-Z_]+)"'
)


def _documented(page: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (ROOT / "docs" / page).read_text(), re.MULTILINE))


def test_every_setting_is_documented_and_no_other():
    in_code = {
        name
        for path in (ROOT / "keyvault").rglob("*.py")
        for name in READERS.findall(path.read_text())
    }

    documented = _documented("settings.md", r"^\| `([A-Z_]+)` \|")

    assert in_code - documented == set()
    assert documented - in_code - {"KEYVAULT_MIGRATE_DATABASE_URL"} == set()


def test_every_event_is_documented_with_its_fields():
    rows = dict(
        re.findall(
            r"^\| `([a-z_]+\.[a-z_.]+)` \| ([^|]*) \|",
            (ROOT / "docs/events.md").read_text(),
            re.MULTILINE,
        )
    )

    assert set(rows) == set(EVENTS)
    for name, fields in EVENTS.items():
        assert set(re.findall(r"`([a-z_]+)`", rows[name])) == set(fields), name


def test_every_operation_of_the_api_is_documented_and_no_other():
    described = {
        (operation["operationId"], f"{method.upper()} `{path}`")
        for path, method, operation in document.operations(urls.openapi())
    }
    rows = re.findall(
        r"^\| `([a-zA-Z]+)` \| ([A-Z]+ `/api/v1/[^`]*`) \|",
        (ROOT / "docs/api.md").read_text(),
        re.MULTILINE,
    )

    assert set(rows) == described


def test_every_problem_of_the_api_is_documented_as_it_is_sent():
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (\d{3}) \| (.*?) \| (.*?) \|$",
        (ROOT / "docs/api.md").read_text(),
        re.MULTILINE,
    )

    assert {name: (int(status), title, mend) for name, status, title, mend in rows} == {
        name: (kind.status, kind.title, kind.mend) for name, kind in problems.KINDS.items()
    }


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    dead = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert dead == []


def test_decisions_have_the_four_parts():
    for page in (ROOT / "docs/decisions").glob("[0-9]*.md"):
        text = page.read_text()
        for part in ("Context", "Decision", "Consequences", "Rejected alternatives"):
            assert f"## {part}" in text, f"{page.name} lacks {part}"


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "SECURITY.md"])
def test_front_pages_speak_of_no_machine(page):
    text = (ROOT / page).read_text()

    assert "/work/" not in text
    assert "/tmp/" not in text
