"""The OpenAI provider: what each call of the protocol does, request by request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from keyvault.crypto.secret import Secret
from keyvault.plugins.json_api import NotAccepted, header_text
from keyvault.providers.base import (
    JSON,
    Ambiguous,
    Attempt,
    Capabilities,
    Context,
    Denied,
    Field,
    Issued,
    LastUse,
    Misconfigured,
    NotFound,
    Page,
    Problem,
    ProviderError,
    Recovery,
    RemoteKey,
    Shape,
    Transient,
    Validation,
    Verdict,
    tag_of,
)
from keyvault.providers.openai import schema
from keyvault.providers.openai.project import ID, Project, api, moment, plain_id

_SCOPE = re.compile(r"[a-z0-9_.:*-]{1,80}")
_DAY_S = 86_400
_MOST_DAYS = 365  # The vendor takes at most 31,536,000 seconds.
_MENDS = {
    Denied.code: "Enter an admin key of the organisation that may manage projects and their keys.",
    Misconfigured.code: "Correct the Connection, or have the address approved on its allow-list.",
    NotFound.code: "Enter the id of a service account of this project, or make one there.",
    Transient.code: "Wait a little and check again.",
}


class OpenAI:
    """Issues one API key per credential to a service account that exists, named by its attempt.

    The vendor chooses the value and shows it once. It knows no idempotency key,
    so that after a lost answer the key is found by its name, ended and made anew.
    """

    kind: ClassVar[str] = "openai"
    title: ClassVar[str] = "OpenAI service account key"
    verified_by: ClassVar[str] = "fake"
    value_field: ClassVar[str] = "api_key"
    takes_listed: ClassVar[bool] = True
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = schema.OPTIONS

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return any number of keys, found again by their names."""
        del ctx
        return Capabilities(Shape.MULTI, Recovery.TAGGED, reports_last_use=True)

    def check(self, ctx: Context) -> list[Problem]:
        """Read the project, its keys and the service account, and say what is wrong."""
        try:
            return list(_problems(ctx))
        except ProviderError as error:
            return [Problem(error.sentence, _MENDS.get(error.code, "Correct the Connection."))]

    def propose(self, config: Mapping[str, JSON], name: str) -> Mapping[str, str]:
        """Return the Connection's service account for a key of which nobody named one."""
        del name
        account = str(config.get("service_account") or "")
        return {"service_account": account} if account else {}

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """See that the service account is there. Raises Misconfigured, NotFound."""
        del current
        order = _Order.of(ctx)
        Project.of(ctx).require_service_account(order.account_id)
        return Attempt(op_id, number, tag_of(op_id, number))

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Make the key, in one request."""
        order, project = _Order.of(ctx), Project.of(ctx)
        answer = project.create_key(order.account_id, order.body(attempt.tag))
        key_id, value = answer.get("id"), answer.get("value")
        if not isinstance(key_id, str) or not ID.fullmatch(key_id) or not isinstance(value, str):
            raise Ambiguous("The API answered without the id or the value of the new key.")
        return Issued(
            key_id,
            tag=attempt.tag,
            public={
                "base_url": f"{project.api.base.rstrip('/')}/v1",
                "project": project.project_id,
                "service_account": order.account_id,
            },
            expires_at=moment(answer.get("expires_at")),
            material={"api_key": Secret.of(value)},
        )

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the keys of the project that bear the attempt's name."""
        return [key for key in Project.of(ctx).every_key() if key.tag == attempt.tag]

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """List the models with the key, which costs nothing."""
        account = issued.public.get("service_account", "")
        try:
            key = header_text(issued.material.get("api_key"), "key")
            api(ctx, key).read("/v1/models")
        except NotAccepted:
            return Validation(Verdict.INVALID, account, "The API does not accept the key.")
        except Denied:
            return Validation(
                Verdict.UNKNOWN, account, "The key may not list models. Widen its scopes."
            )
        except ProviderError:
            return Validation(Verdict.UNKNOWN, account, "The API gave no clear answer.")
        return Validation(Verdict.VALID, account, "Listed the models.")

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Delete the key. The service account and its other keys stay."""
        del kill_sessions
        project = Project.of(ctx)
        if not ID.fullmatch(key.remote_id):
            return
        try:
            project.delete_key(key.remote_id)
        except NotFound:
            # An admin key of another organisation sees no project either: that ends nothing.
            project.read()

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return a page of all keys of the project, those of people among them."""
        return Project.of(ctx).page(cursor)

    def last_use(self, ctx: Context, key: RemoteKey) -> LastUse:
        """Return when the vendor last saw the key in use. Raises NotFound."""
        if not ID.fullmatch(key.remote_id):
            raise NotFound("The id is none of this vendor's.")
        return LastUse(Project.of(ctx).key(key.remote_id).last_used_at)


@dataclass(frozen=True, slots=True)
class _Order:
    """What is asked for one key."""

    account_id: str
    scopes: tuple[str, ...]
    days: int

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """Read the key's settings. Raises Misconfigured."""
        account = ctx.options.get("service_account") or ctx.config.get("service_account")
        scopes = tuple(str(ctx.options.get("scopes") or "").split())
        if not all(map(_SCOPE.fullmatch, scopes)):
            raise Misconfigured("Give scopes such as api.model.read, separated by spaces.")
        text = str(ctx.options.get("expires_days") or "0")
        if not text.isascii() or not text.isdigit() or int(text) > _MOST_DAYS:
            raise Misconfigured(f"A key ends after 1 to {_MOST_DAYS} days there, or never.")
        return cls(plain_id(account, "service account"), scopes, int(text))

    def body(self, name: str) -> dict[str, JSON]:
        """Return the request for a key of this name."""
        body: dict[str, JSON] = {"name": name}
        if self.scopes:
            body["scopes"] = list(self.scopes)
        if self.days:
            body["expires_in_seconds"] = self.days * _DAY_S
        return body


def _problems(ctx: Context) -> Iterator[Problem]:
    project = Project.of(ctx)
    if project.read().get("status") == "archived":
        yield Problem(
            f"The project {project.project_id} is archived.", "Enter the id of an active project."
        )
    project.page(None, limit=1)
    account = ctx.options.get("service_account") or ctx.config.get("service_account")
    if account:
        project.require_service_account(plain_id(account, "service account"))
