"""The whole contract between approvals and the application that hosts it.

The host registers actions and binds four ports once, at start-up: a recorder
for the ledger, a signer for receipts, a directory of people and a presence
check for fresh second factors. Nothing here imports a framework, so that host
and tests can implement the ports with plain objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from approvals.ports.acts import (
    JSON,
    Action,
    Actor,
    CannotExecute,
    Change,
    HasPages,
    Later,
    LostClaim,
    NeedsPerson,
    NotVisible,
    Outcome,
    Plan,
    RiskPoint,
    Run,
    Subject,
    Unfinished,
)
from approvals.ports.host import (
    Directory,
    Member,
    NotPresent,
    Presence,
    Proof,
    Recorder,
    Signer,
    Standing,
)

__all__ = [
    "JSON",
    "Action",
    "Actor",
    "CannotExecute",
    "Change",
    "Directory",
    "HasPages",
    "Later",
    "LostClaim",
    "Member",
    "NeedsPerson",
    "NotBound",
    "NotPresent",
    "NotVisible",
    "Outcome",
    "Plan",
    "Presence",
    "Proof",
    "Recorder",
    "RiskPoint",
    "Run",
    "Signer",
    "Standing",
    "Subject",
    "Unfinished",
    "action_class",
    "bind",
    "directory",
    "kinds",
    "presence",
    "recorder",
    "register",
    "signer",
]

_T = TypeVar("_T")


class NotBound(RuntimeError):
    """A port is used before the host has bound it: approvals fails closed."""


@dataclass(slots=True)
class _Ports:
    recorder: Recorder | None = None
    signer: Signer | None = None
    directory: Directory | None = None
    presence: Presence | None = None


_bound = _Ports()
_actions: dict[str, type[Action]] = {}


def bind(
    *, recorder: Recorder, signer: Signer | None, directory: Directory, presence: Presence
) -> None:
    """Bind the host. A missing signer means a sealed start: decisions are then refused."""
    _bound.recorder, _bound.signer = recorder, signer
    _bound.directory, _bound.presence = directory, presence


def recorder() -> Recorder:
    """Return the ledger. Raises NotBound."""
    return _need(_bound.recorder, "recorder")


def signer() -> Signer:
    """Return the receipt signer. Raises NotBound: without a receipt there is no decision."""
    return _need(_bound.signer, "signer")


def directory() -> Directory:
    """Return the directory of people. Raises NotBound."""
    return _need(_bound.directory, "directory")


def presence() -> Presence:
    """Return the presence check. Raises NotBound."""
    return _need(_bound.presence, "presence")


def _need(port: _T | None, name: str) -> _T:
    if port is None:
        message = f"approvals has no {name}: the host binds its ports when it starts"
        raise NotBound(message)
    return port


def register(action_class: type[Action]) -> type[Action]:
    """Register an action under its kind; usable as a decorator. A second one raises."""
    if _actions.setdefault(action_class.kind, action_class) is not action_class:
        message = f"two actions are registered as {action_class.kind}"
        raise ValueError(message)
    return action_class


def action_class(kind: str) -> type[Action]:
    """Return the class registered as `kind`. Raises LookupError."""
    if kind not in _actions:
        message = f"no action is registered as {kind}"
        raise LookupError(message)
    return _actions[kind]


def kinds() -> Mapping[str, type[Action]]:
    """Return every registered action by kind."""
    return dict(_actions)
