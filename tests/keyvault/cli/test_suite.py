"""The parts of the suite: counted together, kept apart."""

import pytest

from keyvault.cli import suite
from keyvault.launcher.installation import ROOT


def test_errors_count_as_failures_and_only_the_closing_line_is_read():
    output = (
        "tests/x.py ... 7 failed in a story\n== 2 failed, 30 passed, 1 skipped, 3 errors in 4.05s (0:00:04) ==\n"
        "  + Exception Group Traceback\n"
    )

    assert suite._counts(output) == {"failed": 5, "passed": 30, "skipped": 1}


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        ("..\n2 passed, 1 skipped in 0.31s\n", {"passed": 2, "skipped": 1}),
        ("=== no tests ran in 0.01s ===\n", {}),
        ("=== 5 deselected in 0.10s ===\n", {}),
        ("slept 3 times in 0.5s\n= 1 passed in 2.00s =\n", {"passed": 1}),
    ],
)
def test_every_closing_line_of_pytest_is_known(output, counts):
    assert suite._counts(output) == counts


@pytest.mark.parametrize("output", ["", "tests/x.py ..", "ERROR: file or directory not found\n"])
def test_a_part_that_never_came_to_its_closing_line_is_a_failure(output):
    assert suite._counts(output) == {"failed": 1}


def test_a_part_has_a_database_and_directories_of_its_own():
    env = {
        "DATABASE_URL": "postgresql://kv@/keyvault?host=/run/x",
        "KEYVAULT_DATA_DIR": "/d/data",
        "KEYVAULT_KEYS_DIR": "/d/keys",
    }

    apart = suite._apart(env, "browser")

    assert apart["DATABASE_URL"] == "postgresql://kv@/keyvault_browser?host=/run/x"
    assert apart["KEYVAULT_KEYS_DIR"] == "/d/keys-browser"


@pytest.mark.parametrize(
    ("codes", "verdict"), [([0, 0, 0], 0), ([0, 1, 0], 1), ([0, 0, -9], -9), ([0, None], 0)]
)
def test_a_part_that_failed_or_was_killed_fails_the_suite(codes, verdict):
    assert suite._verdict(codes) == verdict


def test_every_part_beside_the_rest_is_there():
    for paths in suite.BESIDE.values():
        assert all((ROOT / path).is_dir() for path in paths)


def test_bytecode_is_kept_for_the_run_where_the_environment_forbids_to_keep_it(monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    assert suite._bytecode({"KEYVAULT_DATA_DIR": "/d/data"}) == {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": "/d/bytecode",
    }

    monkeypatch.setattr("sys.dont_write_bytecode", False)
    assert suite._bytecode({"KEYVAULT_DATA_DIR": "/d/data"}) == {}


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], ["-m", "not campaign and not servers"]),
        (["--campaigns", "tests/x.py"], ["-m", "not servers", "tests/x.py"]),
        (["tests/x.py", "--servers"], ["-m", "not campaign", "tests/x.py"]),
        (["--servers", "--campaigns"], []),
        (["-m", "servers", "tests/x.py"], ["-m", "servers", "tests/x.py"]),
    ],
)
def test_what_runs_on_demand_is_left_out_unless_it_is_asked_for(argv, told):
    assert suite._chosen(argv) == told
