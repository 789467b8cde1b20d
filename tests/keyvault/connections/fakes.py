"""A provider that fails on command, and a worker that dies on command."""

# ruff: noqa: ARG002 - the protocol's own signatures.

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from approvals.ports import LostClaim
from keyvault.crypto.secret import Secret
from keyvault.plugins.loading import Registered
from keyvault.providers import base, registry
from keyvault.providers.base import (
    Attempt,
    Capabilities,
    Field,
    Issued,
    Page,
    Problem,
    Recovery,
    RemoteKey,
    Shape,
    Validation,
    Verdict,
    tag_of,
)


class Crash(BaseException):
    """The process ends here. Not an Exception: no handler of the product may see it."""


@dataclass
class Run:
    """One try of a job. Whoever claims the job later takes the epoch from the one before."""

    now: object
    claims: Claims
    epoch: int
    crash_at: str = ""
    passed: list[str] = field(default_factory=list)
    kind: str = "request.execute"
    is_last: bool = False

    @property
    def subject_id(self):
        return self.claims.subject_id

    def fence(self):
        if self.epoch != self.claims.epoch:
            raise LostClaim("another worker holds this job")

    def reached(self, point):
        self.passed.append(point)
        if point == self.crash_at:
            raise Crash(point)
        self.claims.at(point)


@dataclass
class Claims:
    """Who holds the job; `hooks` run when a point is reached."""

    now: object
    subject_id: UUID = field(default_factory=uuid4)
    epoch: int = 0
    hooks: dict = field(default_factory=dict)

    def claim(self, *, crash_at=""):
        self.epoch += 1
        return Run(self.now, self, self.epoch, crash_at)

    def at(self, point):
        if point in self.hooks:
            self.hooks.pop(point)()


class Fake:
    """A server that keeps credentials, with the recovery class under test.

    `faults` maps a method to what its next calls do: an exception is raised
    before anything happens, `after(exception)` is raised when the change holds.
    """

    kind = "fake"
    title = "Fake"
    config_schema = (
        Field("host", "Host", names_server=True),
        Field("user", "Admin user", required=False),
    )
    material_schema = (Field("password", "Admin password", kind="secret"),)
    options_schema = ()

    def __init__(self, recovery=Recovery.CLIENT, shape=Shape.MULTI):
        self.recovery, self.shape = recovery, shape
        self.keys: dict[str, RemoteKey] = {}
        self.values: dict[str, bytes] = {}
        self.made = 0
        self.calls: list[str] = []
        self.faults: dict[str, deque] = {}
        self.verdict = None

    def fail(self, method, *errors):
        self.faults[method] = deque(errors)

    def alive(self):
        return [key for key in self.keys.values() if key.is_enabled]

    def capabilities(self, ctx):
        return Capabilities(self.shape, self.recovery)

    def check(self, ctx):
        self._pass("check")
        return []

    def prepare(self, ctx, op_id, number, current):
        self._pass("prepare")
        material = {}
        if self.recovery in (Recovery.CLIENT, Recovery.NAMED):
            material = {"password": Secret.of(secrets.token_urlsafe(16))}
        return Attempt(op_id, number, tag_of(op_id, number), material=material)

    def create(self, ctx, attempt):
        late = self._pass("create")
        if self.recovery in (Recovery.CLIENT, Recovery.NAMED):
            remote_id, value = f"id-{attempt.tag}", attempt.material["password"].reveal()
        else:
            self.made += 1
            remote_id, value = f"id-{self.made}", secrets.token_bytes(16)
        self.keys[remote_id] = RemoteKey(remote_id, tag=attempt.tag, is_enabled=True)
        self.values[remote_id] = value
        self._late(late)
        return Issued(
            remote_id,
            tag=attempt.tag,
            public={"username": remote_id},
            material={"password": Secret(value)},
        )

    def find(self, ctx, attempt):
        self._pass("find")
        return [key for key in self.alive() if key.tag == attempt.tag]

    def validate(self, ctx, issued):
        self._pass("validate")
        if self.verdict:
            return Validation(self.verdict)
        key = self.keys.get(issued.remote_id)
        right = self.values.get(issued.remote_id) == issued.material["password"].reveal()
        good = key is not None and key.is_enabled and right
        return Validation(Verdict.VALID if good else Verdict.INVALID)

    def revoke(self, ctx, key, *, kill_sessions):
        late = self._pass("revoke")
        if key.remote_id in self.keys:
            self.keys[key.remote_id] = replace(self.keys[key.remote_id], is_enabled=False)
        self._late(late)

    def inventory(self, ctx, cursor):
        self._pass("inventory")
        return Page(tuple(self.keys.values()))

    def _pass(self, method):
        self.calls.append(method)
        waiting = self.faults.get(method)
        fault = waiting.popleft() if waiting else None
        if isinstance(fault, Hang):
            fault = fault.pass_by()
        if isinstance(fault, BaseException):
            raise fault
        return fault

    def _late(self, fault):
        if fault is not None:
            raise fault.error


@dataclass
class Hang:
    """A call that hangs so long that somebody else does the work, and ends in an error then.

    `error` may be an `After`: the change is made when everybody has given it up.
    """

    error: object
    meanwhile: object = None

    def pass_by(self):
        self.meanwhile()
        return self.error


@dataclass
class After:
    """An error that is raised when the change holds already."""

    error: BaseException


class Switch(Fake):
    """A provider that can switch a credential off and on again."""

    def capabilities(self, ctx):
        return Capabilities(self.shape, self.recovery, can_suspend=True)

    def suspend(self, ctx, key):
        self._set("suspend", key, is_enabled=False)

    def resume(self, ctx, key):
        self._set("resume", key, is_enabled=True)

    def _set(self, method, key, *, is_enabled):
        late = self._pass(method)
        if key.remote_id not in self.keys:
            raise base.NotFound("It does not exist.")
        self.keys[key.remote_id] = replace(self.keys[key.remote_id], is_enabled=is_enabled)
        self._late(late)


class Sees(Switch):
    """One that also tells when it has last seen a credential in use."""

    seen = base.LastUse(at=None)

    def capabilities(self, ctx):
        return replace(super().capabilities(ctx), reports_last_use=True)

    def last_use(self, ctx, key):
        self._pass("last_use")
        return self.seen


class Renews(Fake):
    """A provider that renews its own admin credential. `taken` is what it accepts."""

    account = "kv_admin"

    def __init__(self, recovery=Recovery.CLIENT, shape=Shape.MULTI):
        super().__init__()
        self.admin_recovery, self.admin_shape = recovery, shape
        self.taken = {b"admin-canary"}
        self.by_tag: dict[str, bytes] = {}
        self.problem = ""

    def admin_capabilities(self, ctx):
        return Capabilities(self.admin_shape, self.admin_recovery)

    def check(self, ctx):
        self._pass("check")
        if self.problem:
            return [Problem(self.problem, "Mend it.")]
        return [] if self._is_taken(ctx) else [Problem("Refused.", "Enter it again.")]

    def prepare_admin(self, ctx, op_id, number):
        self._pass("prepare_admin")
        self._require(ctx)
        material = {}
        if self.admin_recovery is Recovery.CLIENT:
            material = {"password": Secret.of(secrets.token_urlsafe(16))}
        return Attempt(op_id, number, tag_of(op_id, number), material=material)

    def create_admin(self, ctx, attempt):
        late = self._pass("create_admin")
        self._require(ctx)
        if self.admin_recovery is Recovery.CLIENT:
            value = attempt.material["password"].reveal()
        else:
            value = self.by_tag[attempt.tag] = secrets.token_urlsafe(16).encode()
        self.taken = {value} if self.admin_shape is Shape.REPLACE else self.taken | {value}
        self._late(late)
        return {"password": Secret(value)}

    def withdraw_admin(self, ctx, attempt):
        late = self._pass("withdraw_admin")
        self._require(ctx)
        self.taken.discard(self.by_tag.get(attempt.tag))
        self._late(late)

    def validate_admin(self, ctx):
        fault = self._pass("validate_admin")
        if fault is not None or self.verdict:
            return Validation(self.verdict or Verdict.UNKNOWN, self.account)
        verdict = Verdict.VALID if self._is_taken(ctx) else Verdict.INVALID
        return Validation(verdict, self.account)

    def revoke_admin(self, ctx, old):
        late = self._pass("revoke_admin")
        self._require(ctx)
        self.taken.discard(old["password"].reveal())
        self._late(late)

    def _is_taken(self, ctx):
        return bool(ctx.admin) and ctx.admin["password"].reveal() in self.taken

    def _require(self, ctx):
        if not self._is_taken(ctx):
            raise base.Denied("The admin credential is refused.")


class Minter(Fake):
    """A provider of credentials for one run each, which ends after an hour."""

    kind = "minter"
    life_s = 3600

    def __init__(self):
        super().__init__(Recovery.NONE, Shape.EPHEMERAL)

    def longest_s(self, ctx):
        return int(ctx.options.get("longest_s", self.life_s))

    def mint(self, ctx, subject, scopes, ttl_s):
        late = self._pass("mint")
        self.made += 1
        remote_id, value = f"id-{self.made}", secrets.token_hex(16).encode()
        self.keys[remote_id] = RemoteKey(remote_id, is_enabled=True)
        self.values[remote_id] = value
        self._late(late)
        ends_at = datetime.now(UTC) + timedelta(seconds=self.life_s)
        return Issued(remote_id, expires_at=ends_at, material={"password": Secret(value)})

    def end(self, ctx, issued):
        late = self._pass("end")
        self.keys[issued.remote_id] = replace(self.keys[issued.remote_id], is_enabled=False)
        self._late(late)


class Paste(Fake):
    """A provider whose credentials a person makes by hand."""

    kind = "paste"
    value_schema = (Field("value", "Value", kind="secret"),)

    def __init__(self):
        super().__init__(Recovery.NONE, Shape.MANUAL)

    def create(self, ctx, attempt):
        raise base.Unsupported("A person creates this credential.")

    def adopt(self, ctx, attempt, material):
        value = material["value"].reveal()
        if not value:
            raise base.Misconfigured("The value is empty.")
        self.keys[attempt.tag] = RemoteKey(attempt.tag, tag=attempt.tag, is_enabled=True)
        return Issued(attempt.tag, tag=attempt.tag, material={"value": Secret(value)})

    def validate(self, ctx, issued):
        return Validation(Verdict.UNKNOWN)

    def revoke(self, ctx, key, *, kill_sessions):
        raise base.Unsupported("A person revokes this credential.")

    def instructions(self, ctx, act):
        return (f"{act} it by hand.",)


def install(provider):
    """Put a provider in place of, or beside, the loaded ones."""
    registry.kinds()
    registry._registry._loaded[provider.kind] = Registered(provider, "tests", "1")
    return provider
