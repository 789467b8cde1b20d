"""The two halves of the suite: counted together, kept apart."""

from keyvault.cli import suite


def test_errors_count_as_failures_and_only_the_closing_line_is_read():
    output = (
        "tests/x.py ... 7 failed in a story\n== 2 failed, 30 passed, 1 skipped, 3 errors in 4s ==\n"
    )

    assert suite._counts(output) == {"failed": 5, "passed": 30, "skipped": 1}


def test_a_half_that_printed_nothing_counts_nothing():
    assert suite._counts("") == {}


def test_the_second_half_has_a_database_and_directories_of_its_own():
    env = {
        "DATABASE_URL": "postgresql://kv@/keyvault?host=/run/x",
        "KEYVAULT_DATA_DIR": "/d/data",
        "KEYVAULT_KEYS_DIR": "/d/keys",
    }

    apart = suite._apart(env)

    assert apart["DATABASE_URL"] == "postgresql://kv@/keyvault_browser?host=/run/x"
    assert apart["KEYVAULT_KEYS_DIR"] == "/d/keys-browser"
