"""The policies of a new installation, for tests that begin after its set-up."""

from __future__ import annotations

from datetime import datetime

from approvals.models import Policy, PolicyVersion
from keyvault.actions import defaults
from keyvault.audit.models import Event
from tests.rows import Rows


def _make(then: datetime) -> None:
    defaults.seed(now=then)


# The environments are those of the cast.
DEFAULTS = Rows(_make, (Policy, PolicyVersion, Event))
