"""What a person wants a Connection to be: read from a form, checked, nothing stored. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from keyvault import outbound
from keyvault.providers.base import Field

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_TITLE_CHARS, _LINE_CHARS, _LONG_CHARS, _MOST_HOSTS = 80, 300, 20_000, 50
_MOST_DAYS = 1000
_LIMITS = {"longtext": _LONG_CHARS}


class BadDraft(ValueError):
    """Some fields cannot be taken; `errors` says by field what to mend. Repeats no value."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = dict(errors)


@dataclass(frozen=True, slots=True)
class Draft:
    """A Connection as a person wants it, without its credential.

    renew_days: the age at which keyvault renews the credential; 0 leaves that to people.
    """

    slug: str
    title: str
    provider: str
    config: Mapping[str, str] = field(default_factory=dict)
    allowed_hosts: tuple[str, ...] = ()
    environment: str = ""
    team: str = ""
    admin_label: str = ""
    renew_days: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the draft as plain JSON values."""
        return {
            "slug": self.slug,
            "title": self.title,
            "provider": self.provider,
            "config": dict(self.config),
            "allowed_hosts": list(self.allowed_hosts),
            "environment": self.environment,
            "team": self.team,
            "admin_label": self.admin_label,
            # Left out where nothing is wanted, so that requests of before stay what was signed.
            **({"renew_days": self.renew_days} if self.renew_days else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_json` returned. Raises ValueError on another shape."""
        if set(data) | {"renew_days"} != set(cls.__dataclass_fields__):
            raise ValueError("The stored draft of a Connection has other fields.")
        return cls(**{**data, "allowed_hosts": tuple(data["allowed_hosts"])})


def clean(draft: Draft, *, schema: Sequence[Field]) -> Draft:
    """Return the draft trimmed and complete with defaults. Raises BadDraft with every fault."""
    errors: dict[str, str] = {}
    slug, title = draft.slug.strip().lower(), " ".join(draft.title.split())
    if not SLUG.fullmatch(slug):
        errors["slug"] = "The name takes 1 to 40 of a-z, 0-9 and -, and begins and ends with one."
    if not 0 < len(title) <= _TITLE_CHARS:
        errors["title"] = f"Give it a title of at most {_TITLE_CHARS} characters."
    unknown = set(draft.config) - {entry.name for entry in schema}
    if unknown:
        errors["provider"] = "The form does not fit this provider. Reload the page."
    config = {entry.name: _value(entry, draft.config, errors) for entry in schema}
    hosts = _hosts(draft.allowed_hosts, errors)
    if not 0 <= draft.renew_days <= _MOST_DAYS:
        errors["renew_days"] = f"Take 1 to {_MOST_DAYS} days, or leave it empty."
    if errors:
        raise BadDraft(errors)
    return Draft(
        slug=slug,
        title=title,
        provider=draft.provider,
        config={name: value for name, value in config.items() if value},
        allowed_hosts=hosts,
        environment=draft.environment,
        team=draft.team,
        admin_label=config.get("user", "")[:120],
        renew_days=draft.renew_days,
    )


def clean_fields(typed: Mapping[str, str], *, schema: Sequence[Field]) -> dict[str, str]:
    """Return settings trimmed and complete with defaults. Raises BadDraft with every fault."""
    errors: dict[str, str] = {}
    found = {entry.name: _value(entry, typed, errors) for entry in schema}
    for name in typed.keys() - found.keys():
        errors[name] = "There is no such setting here."
    if errors:
        raise BadDraft(errors)
    return {name: value for name, value in found.items() if value}


def clean_credential(
    typed: Mapping[str, str], *, schema: Sequence[Field], is_needed: bool
) -> dict[str, str]:
    """Return the typed credential, empty when none was typed and none is needed.

    Raises BadDraft, which never repeats what was typed.
    """
    names = {entry.name for entry in schema}
    given = {name: text for name, text in typed.items() if text and name in names}
    if not given and not is_needed:
        return {}
    errors = {
        entry.name: f"{entry.label} is needed."
        for entry in schema
        if entry.required and not given.get(entry.name)
    }
    errors |= {
        name: "This is longer than any credential."
        for name, text in given.items()
        if len(text) > _LONG_CHARS
    }
    if errors:
        raise BadDraft(errors)
    return given


def _value(entry: Field, config: Mapping[str, str], errors: dict[str, str]) -> str:
    text = str(config.get(entry.name, "")).strip() or entry.default
    fault = _fault(entry, text)
    if fault:
        errors[entry.name] = fault
    return text


def _fault(entry: Field, text: str) -> str:
    if not text:
        return f"{entry.label} is needed." if entry.required else ""
    if len(text) > _LIMITS.get(entry.kind, _LINE_CHARS):
        return f"{entry.label} is too long."
    if entry.kind == "number" and not (text.isascii() and text.isdigit()):
        return f"{entry.label} takes a whole number."
    if entry.kind == "choice" and text not in {value for value, _ in entry.choices}:
        return f"{entry.label} takes one of the listed values."
    if entry.kind != "longtext" and not text.isprintable():
        return f"{entry.label} holds characters that do not show."
    return ""


def _hosts(lines: Sequence[str], errors: dict[str, str]) -> tuple[str, ...]:
    hosts = tuple(dict.fromkeys(line.strip().lower() for line in lines if line.strip()))
    try:
        for host in hosts:
            outbound.Allowance.parse(host)
    except ValueError as error:
        errors["allowed_hosts"] = str(error)
    if len(hosts) > _MOST_HOSTS:
        errors["allowed_hosts"] = f"Name at most {_MOST_HOSTS} private addresses."
    return hosts
