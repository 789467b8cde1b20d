"""The house rules, as tests: who may import whom, how long things may be, where gates stand."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

ROOT = Path(__file__).resolve().parent.parent
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
FILE_LINES, FILE_HARD, FUNCTION_HARD = 300, 400, 60

# One planted import for each contract. Each names the contract that must break.
VIOLATIONS = {
    "apps": ("approvals/policy/rules.py", "import keyvault.environment"),
    "keyvault-layers": ("keyvault/audit/merkle.py", "import keyvault.vault.services"),
    "approvals-layers": ("approvals/canonical.py", "import approvals.views"),
    "pure": ("keyvault/crypto/envelope.py", "import django.db"),
    "crypto": ("keyvault/inventory/selectors.py", "import keyvault.crypto.envelope"),
    # By a path: the module named imports Django, not the gateway itself.
    "gateway": ("keyvault/gateway/rights.py", "import keyvault.agents.tokens"),
    "views": ("keyvault/web/keys.py", "import keyvault.inventory.models"),
    "sealed": ("keyvault/connections/issuing.py", "import keyvault.vault.models"),
    "ledger": ("keyvault/accounts/services.py", "import keyvault.audit.models"),
    "requests": ("keyvault/actions/create_key.py", "import approvals.models"),
    "cycles": ("keyvault/audit/context.py", "import keyvault.accounts.models"),
}


def _lint_imports(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", *arguments],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(where)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def copy_of_the_tree(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("tree")
    for package in ("approvals", "keyvault"):
        shutil.copytree(
            ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def test_every_import_contract_is_kept():
    result = _lint_imports(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_a_planted_import_breaks_its_contract(copy_of_the_tree, contract):
    name, line = VIOLATIONS[contract]
    victim = copy_of_the_tree / name
    before = victim.read_text()

    victim.write_text(f"{before}\n{line}\n")
    result = _lint_imports(copy_of_the_tree, "--contract", contract)
    victim.write_text(before)

    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout


def test_a_new_package_must_be_placed_in_a_layer(copy_of_the_tree):
    stray = copy_of_the_tree / "keyvault" / "stray.py"

    stray.write_text('"""A module that nobody has placed."""\n')
    result = _lint_imports(copy_of_the_tree, "--contract", "keyvault-layers")
    stray.unlink()

    assert result.returncode == 1
    assert "stray" in result.stdout + result.stderr


def test_the_contracts_all_have_a_planted_violation():
    ids = re.findall(r'^id = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert set(ids) == set(VIOLATIONS)


def _sources() -> list[Path]:
    return [
        path
        for package in ("approvals", "keyvault")
        for path in (ROOT / package).rglob("*.py")
        if "migrations" not in path.parts
    ]


def test_files_stay_small():
    lengths = {path: path.read_text().count("\n") for path in _sources()}

    assert not {str(p): n for p, n in lengths.items() if n > FILE_HARD}
    over = sum(n > FILE_LINES for n in lengths.values())
    assert over <= len(lengths) // 20, "more than one file in twenty is over 300 lines"


def test_functions_stay_small():
    lengths = {}
    for path in _sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths[f"{path.relative_to(ROOT)}:{node.name}"] = node.end_lineno - node.lineno + 1

    assert not {name: n for name, n in lengths.items() if n > FUNCTION_HARD}
    ordered = sorted(lengths.values())
    assert ordered[int(len(ordered) * 0.9)] <= 32


def test_the_package_imports_nothing_by_itself():
    assert (ROOT / "keyvault" / "__init__.py").read_text() == ""


def _patterns(entries, prefix=""):
    for entry in entries:
        if isinstance(entry, URLResolver):
            yield from _patterns(entry.url_patterns, prefix + str(entry.pattern))
        elif isinstance(entry, URLPattern):
            yield prefix + str(entry.pattern), entry.callback


def test_every_address_names_its_gate():
    missing = [
        address
        for address, view in _patterns(get_resolver().url_patterns)
        if not getattr(view, "gate", "")
    ]

    assert missing == []


def test_templates_hold_no_inline_script_or_style():
    pattern = re.compile(
        r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|hx-on|hx-vars|hx-vals='js:|\|safe\b",
        re.IGNORECASE,
    )

    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in (ROOT / "templates").rglob("*.html")
        for match in pattern.finditer(path.read_text())
    ]

    assert found == []


def test_the_django_admin_is_not_installed(settings):
    assert "django.contrib.admin" not in settings.INSTALLED_APPS
