"""A file that declares keys: read as it is meant, and every fault with its line and the nearest name."""

from __future__ import annotations

from typing import get_args

import pytest

from keyvault.api import asks, changes, dependents, schemas
from keyvault.cli import declared
from keyvault.cli.declared_lines import Lines
from keyvault.launcher.installation import ROOT
from keyvault.launcher.sentences import Stop

EXAMPLE = ROOT / "docs/examples/keys-as-code/keys.toml"


@pytest.fixture
def read(tmp_path):
    file = tmp_path / "keys.toml"

    def reading(text: str):
        file.write_text(text)
        return declared.read(file)

    return reading


@pytest.fixture
def faults(read, tmp_path):
    """Return what is said of a file, line by line, without its own name."""

    def of(text: str) -> list[str]:
        with pytest.raises(Stop) as stopped:
            read(text)
        assert stopped.value.code == 2
        return str(stopped.value).replace(f"{tmp_path / 'keys.toml'}:", "").split("\n  ")

    return of


def test_the_example_says_what_it_shows():
    reports, triage = declared.read(EXAMPLE)

    assert (triage.name, triage.title) == ("returns-triage", "Returns, triage")
    assert triage.use == {
        "labels": ("customer-data", "returns"),
        "allowed_hosts": ("db.northwind.example",),
        "volume_per_day": 2000,
    }
    usual = {"agent": "", "health": "by_hand", "cache_s": 0}
    assert list(triage.dependents) == [
        usual | {"name": "refund-bot", "agent": "refund-bot", "health": "reports", "wave": 0},
        usual | {"name": "Nightly batch host", "wave": 1},
    ]
    assert (reports.title, dict(reports.use)) == (None, {"labels": ("returns",)})
    assert reports.dependents[0]["health"] == "reads", "what an agent fetches is seen at its reads"


def test_what_is_not_named_is_not_declared(read):
    [key] = read("[keys.returns-triage]\n")

    assert (key.title, dict(key.use), key.dependents) == (None, {}, None)
    [key] = read("[keys.returns-triage]\ndependents = []\nlabels = []\n")
    assert (dict(key.use), key.dependents) == ({"labels": ()}, ())


def test_names_come_in_their_one_form(read):
    text = '[keys."Orders-Triage"]\nlabels = ["B", "a", "b"]\nallowed_hosts = ["DB.example.com."]\n'

    [key] = read(text)

    assert key.name == "orders-triage"
    assert dict(key.use) == {"labels": ("a", "b"), "allowed_hosts": ("db.example.com",)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nkees = 1\n", "2: kees: there is no kees here. Did you mean keys?"),
        ("[keys.ab]\n", "1: keys.ab: Use 3 to 48 characters"),
        ("[keys.key-a]\n\nlables = []\n", "3: keys.key-a.lables: there is no lables here. Did you mean labels?"),
        ("[keys.key-a]\nxyz = 1\n", "2: keys.key-a.xyz: there is no xyz here."),
        ("[keys.key-a]\nowner = 'bob'\n", "2: keys.key-a.owner: owner is settled when a key is asked for"),
        ("[keys.key-a]\ntitle = 3\n", "2: keys.key-a.title: this is a text of at most 120"),
        ("[keys.key-a]\ntitle = ' '\n", "2: keys.key-a.title: it is not left empty."),
        ("[keys.key-a]\nvolume_per_day = true\n", "2: keys.key-a.volume_per_day: this is a whole number from 1"),
        ("[keys.key-a]\nvolume_per_day = 0\n", "from 1 to 1,000,000,000."),
        ("[keys.key-a]\ndelivery_mode = 'pul'\n", "this is one of reveal, pull. Did you mean pull?"),
        ("[keys.key-a]\nlabels = 'ai'\n", "2: keys.key-a.labels: this is a list of texts"),
        ("[keys.key-a]\nlabels = ['so nice!']\n", "A label has 1 to 40 small letters"),
        ("[keys.key-a]\nallowed_hosts = ['https://x']\n", "Write a host name or an address"),
        (f"[keys.key-a]\nlabels = {[f'l{n}' for n in range(21)]}\n", "there are at most 20 of them."),
        ("keys = 3\n", "1: keys: keys is a table of keys: write [keys.NAME]."),
        ("[keys]\nkey-a = 3\n", "2: keys.key-a: say what holds for it in a table: [keys.key-a]."),
        ("[keys.key-a]\ndependents = 3\n", "write [[keys.key-a.dependents]] for each of them."),
        ("[keys.key-a]\n[keys.KEY-A]\n", "2: keys.KEY-A: the key stands there twice."),
    ],
)  # fmt: skip
def test_a_fault_is_said_with_its_line_and_the_mend(faults, text, said):
    [found] = faults(text)

    assert said in found


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("name = 'A'\nagnet = 'b'", "3: keys.key-a.dependents.1.agnet: there is no agnet here. Did you mean agent?"),
        ("wave = 1", "dependents.1.name: it is not left empty."),
        ("name = 'A'\nhealth = 'reports'", "3: keys.key-a.dependents.1.health: without an agent a person says so"),
        ("name = 'A'\nagent = 'b'\nhealth = 'raeds'", "one of reads, reports, by_hand, probed. Did you mean reads?"),
        ("name = 'A'\nwave = 101", "3: keys.key-a.dependents.1.wave: this is a whole number from 0 to 100."),
        ("name = 'A'\ncache_s = -1", "from 0 to 2,592,000."),
    ],
)  # fmt: skip
def test_a_fault_of_a_dependent_is_said_with_its_place(faults, row, said):
    [found] = faults(f"[[keys.key-a.dependents]]\n{row}\n")

    assert said in found


def test_names_and_agents_stand_there_once(faults):
    row = "[[keys.key-a.dependents]]\nname = 'A'\nagent = 'b'\n"

    assert faults(row + row) == [
        "5: keys.key-a.dependents.2.name: A stands there twice.",
        "6: keys.key-a.dependents.2.agent: b stands there twice.",
    ]


def test_all_faults_are_said_at_once(faults):
    found = faults("[keys.key-a]\nlables = []\n[keys.key-b]\ntitel = 'x'\n")

    assert [line.partition(": ")[0] for line in found] == ["2", "4"]


def test_what_is_no_toml_is_said_with_its_line(faults):
    [found] = faults("[keys.key-a]\nlabels = [\n")

    assert "this is no TOML" in found
    assert "line" in found or "end of document" in found


def test_a_file_that_declares_nothing_is_a_mistake(faults):
    assert faults("") == [" it declares no key. Begin with [keys.NAME]."]


def test_no_text_of_the_file_steers_the_terminal(faults):
    [found] = faults('[keys.key-a]\n"\\u001b[2J" = 1\n')

    assert "\x1b" not in found


def test_lines_are_found_under_every_way_to_write_a_table():
    lines = Lines(
        "[keys]\n"
        "a.title = 'x'\n"
        "[keys.'b.c']\n"
        "labels = [\n"
        "  'x',\n"
        "]\n"
        "[[keys.d.dependents]] # first\n"
        "name = 'x'\n"
        "[[keys.d.dependents]]\n"
        "  name = 'y'\n"
    )

    assert lines.of("keys", "a", "title") == 2
    assert lines.of("keys", "b.c", "labels") == 4
    assert lines.of("keys", "b.c", "title") == 3, "the table that it would stand in"
    assert lines.of("keys", "d", "dependents", 1, "name") == 10
    assert lines.of("keys", "d", "dependents", 0, "name") == 8
    assert lines.of("nothing") == 1


def test_the_bounds_are_those_of_the_server():
    def most(model, name: str, what: str = "max_length"):
        return next(
            getattr(one, what) for one in model.model_fields[name].metadata if hasattr(one, what)
        )

    assert most(changes.NewTitle, "title") == declared.MOST_TITLE
    assert declared.MOST_LABELS == schemas.MOST_LABELS
    assert most(dependents.DeclaredDependent, "name") == declared.MOST_NAME
    assert declared.MOST_WAVE == dependents.MOST_WAVE
    assert declared.MOST_CACHE_S == dependents.MOST_CACHE_S
    assert declared.MOST_DEPENDENTS == dependents.MOST
    assert set(declared.USE) == set(asks.ChangedUse.model_fields)
    healths = get_args(dependents.DeclaredDependent.model_fields["health"].annotation)
    assert set(healths) <= set(declared.HEALTHS)
