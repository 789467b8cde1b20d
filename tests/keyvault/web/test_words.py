import re
from pathlib import Path

import pytest
from django.conf import settings

from approvals.models import Job, Request
from keyvault.agents.models import AgentState
from keyvault.inventory.models import KeyState
from keyvault.leases.models import LeaseState
from keyvault.vault.models import VersionState
from keyvault.web import vocabulary

ROOT = Path(settings.ROOT)


@pytest.mark.parametrize(
    ("thing", "states"),
    [
        ("request", Request.State),
        ("key", KeyState),
        ("version", VersionState),
        ("agent", AgentState),
        ("lease", LeaseState),
        ("job", Job.State),
    ],
)
def test_every_state_of_the_code_has_one_word_on_the_page(thing, states):
    words = {value: vocabulary.word(thing, value).word for value in states.values}

    assert words == dict(states.choices)


def test_every_word_uses_a_known_kind_and_a_drawn_icon():
    sprite = (ROOT / "static" / "icons.svg").read_text()
    drawn = set(re.findall(r'<symbol id="([^"]+)"', sprite))

    for words in vocabulary.STATES.values():
        for word in words.values():
            assert word.kind in vocabulary.KINDS
            assert word.icon in drawn


def test_what_is_over_is_grey_because_red_asks_to_act():
    past = [
        ("key", "revoked"),
        ("agent", "retired"),
        ("request", "rejected"),
        ("request", "withdrawn"),
    ]

    assert {vocabulary.word(*state).kind for state in past} == {""}


def test_a_state_outside_the_table_is_refused():
    with pytest.raises(LookupError, match="'minting' is not a state of a request"):
        vocabulary.word("request", "minting")
