"""The form of a Connection, drawn from what its provider needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms

from keyvault.accounts import selectors as people
from keyvault.connections import renewals, selectors
from keyvault.connections.drafts import Draft
from keyvault.inventory import selectors as inventory

if TYPE_CHECKING:
    from django.http import QueryDict

    from keyvault.connections.models import Connection
    from keyvault.providers.base import Field

CONFIG, CREDENTIAL, VALUE = "config_", "credential_", "value_"
_TEXT_MAX = 20_000
_KEPT = "Leave it empty to keep the one in place. Needed again when a setting above changes."
_EMPTIED = "For safety it is never shown again, so type it once more after an error or a check."


class ConnectionForm(forms.Form):
    """What an administrator wants a Connection to be."""

    slug = forms.CharField(
        label="Name", max_length=80, help_text="Small letters, digits and hyphens. Never changes."
    )
    title = forms.CharField(max_length=200, help_text="What people choose when they ask for a key.")
    environment = forms.ChoiceField(required=False, help_text="Where its keys may be used.")
    team = forms.ChoiceField(
        required=False, label="Looked after by", help_text="May act by hand where that is needed."
    )
    allowed_hosts = forms.CharField(
        required=False,
        label="Private addresses it may reach",
        max_length=_TEXT_MAX,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="host:port or network:port, one a line. Public addresses need no entry.",
    )
    renew_days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=1000,
        label="Renew it every … days",
        help_text="Empty: a person renews it. From the first renewal on only keyvault knows it.",
    )
    reason = forms.CharField(
        label="Why",
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Approvers read this.",
    )
    ticket = forms.CharField(required=False, max_length=120)

    def __init__(
        self, data: QueryDict | None = None, *, kind: str, before: Connection | None = None
    ) -> None:
        super().__init__(data, initial=_initial(before))
        self.kind, self.before = kind, before
        self.config = tuple(selectors.config_schema(kind))
        self.credential = tuple(selectors.credential_schema(kind))
        for entry in self.config:
            self.fields[CONFIG + entry.name] = field_for(entry)
        for entry in self.credential:
            self.fields[CREDENTIAL + entry.name] = _secret(entry, is_kept=before is not None)
        # A check asks nobody, so it needs no reason.
        self.fields["reason"].required = data is None or "check" not in data
        if not renewals.is_offered(kind):
            del self.fields["renew_days"]
        if before is not None:
            self.fields["slug"].disabled = True
        self._choose("environment", "Every environment", _environments())
        self._choose("team", "Administrators", [(t.slug, t.title) for t in people.teams("team")])

    @property
    def sections(self) -> list[dict[str, Any]]:
        """Return the form's parts in reading order."""
        config = [CONFIG + entry.name for entry in self.config]
        credential = [CREDENTIAL + entry.name for entry in self.credential]
        credential += [name for name in ("renew_days",) if name in self.fields]
        parts = [
            ("What", "What people see.", ["slug", "title", "environment", "team"]),
            ("Where", "The server and the way to it.", [*config, "allowed_hosts"]),
            ("Admin credential", "Sealed at once; nobody can read it back.", credential),
            ("Why", "Approvers read this.", ["reason", "ticket"]),
        ]
        return [
            {"title": title, "hint": hint, "fields": [self[name] for name in names]}
            for title, hint, names in parts
            if names
        ]

    def draft(self) -> Draft:
        """Return what is wanted, without the credential."""
        data = self.cleaned_data
        config = {entry.name: _text(data.get(CONFIG + entry.name)) for entry in self.config}
        return Draft(
            slug=data.get("slug", ""),
            title=data.get("title", ""),
            provider=self.kind,
            config=config,
            allowed_hosts=tuple(data.get("allowed_hosts", "").splitlines()),
            environment=data.get("environment", ""),
            team=data.get("team", ""),
            renew_days=data.get("renew_days") or 0,
        )

    def typed(self) -> dict[str, str]:
        """Return the credential as it was typed; empty fields are left out."""
        values = {
            entry.name: self.cleaned_data.get(CREDENTIAL + entry.name) for entry in self.credential
        }
        return {name: str(value) for name, value in values.items() if value}

    def blame(self, errors: Mapping[str, str]) -> None:
        """Show faults that the services found beside the fields that they are about."""
        for name, sentence in errors.items():
            owner = next(
                (p + name for p in (CONFIG, CREDENTIAL, "") if p + name in self.fields), None
            )
            self.add_error(owner, sentence)

    def _choose(self, name: str, empty: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        if isinstance(field, forms.ChoiceField):
            field.choices = [("", empty), *choices]


class HandForm(forms.Form):
    """The value of a credential that was made by hand."""

    def __init__(self, data: QueryDict | None = None, *, fields: tuple[Field, ...]) -> None:
        super().__init__(data)
        self.schema = fields
        for entry in fields:
            self.fields[VALUE + entry.name] = (
                _secret(entry, is_kept=False) if entry.kind == "secret" else field_for(entry)
            )

    def typed(self) -> dict[str, str]:
        """Return what was typed; empty fields are left out."""
        values = {entry.name: self.cleaned_data.get(VALUE + entry.name) for entry in self.schema}
        return {name: str(value) for name, value in values.items() if value}


def field_for(entry: Field) -> forms.Field:
    """Return the form field for one setting of a provider."""
    more: dict[str, Any] = {
        "label": entry.label,
        "help_text": entry.help,
        "required": entry.required,
        "initial": entry.default or None,
    }
    if entry.kind == "choice":
        return forms.ChoiceField(choices=entry.choices, **more)
    if entry.kind == "number":
        return forms.IntegerField(min_value=0, **more)
    widget = forms.Textarea(attrs={"rows": 4}) if entry.kind == "longtext" else forms.TextInput
    return forms.CharField(max_length=_TEXT_MAX, widget=widget, **more)


def _secret(entry: Field, *, is_kept: bool) -> forms.Field:
    """Return a field whose value no answer ever repeats."""
    return forms.CharField(
        label=entry.label,
        required=entry.required and not is_kept,
        max_length=_TEXT_MAX,
        strip=False,
        help_text=" ".join(filter(None, (entry.help, _KEPT if is_kept else "", _EMPTIED))),
        widget=forms.PasswordInput(
            render_value=False, attrs={"autocomplete": "off", "spellcheck": "false"}
        ),
    )


def _initial(before: Connection | None) -> dict[str, Any]:
    if before is None:
        return {}
    return {
        "slug": before.slug,
        "title": before.title,
        "environment": before.environment.slug if before.environment else "",
        "team": before.team.name if before.team else "",
        "allowed_hosts": "\n".join(before.allowed_hosts),
        "renew_days": before.renew_days,
    } | {CONFIG + name: value for name, value in before.config.items()}


def _environments() -> list[tuple[str, str]]:
    return [
        (row.slug, f"{row.title}, protected" if row.protected else row.title)
        for row in inventory.environments()
    ]


def _text(value: object) -> str:
    return "" if value is None else str(value)
