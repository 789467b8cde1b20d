"""The form that asks for a key, drawn from the Connection that was chosen."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping
from datetime import time
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

from django import forms
from django.core import signing

from keyvault.actions import new_key
from keyvault.connections import minting
from keyvault.connections import selectors as connections
from keyvault.inventory import calendars, naming, selectors
from keyvault.inventory.declaration import Declaration
from keyvault.web.option_forms import OPTION, option_fields, typed_options

if TYPE_CHECKING:
    from django.http import QueryDict

    from keyvault.accounts.models import User
    from keyvault.connections.models import Connection

_T = TypeVar("_T")
REASON_MAX = 4000
DAYS_MAX = 3650
_DRAFT_SALT = "keyvault.web.key_forms.draft"
_UNNAMED = "unnamed"
_TIME = "%H:%M"

SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("What", "The key and what it may do there.", ("name", "title")),
    ("Who", "Who answers for it.", ("team", "backup_owner")),
    (
        "Where",
        "Where it is used, and against what.",
        ("environment", "allowed_hosts", "volume_per_day", "external_input", "delivery_mode"),
    ),
    (
        "How long",
        "Shorter is safer.",
        ("lifetime_days", "cadence_days", "calendar_day", "calendar_time"),
    ),
    ("Why", "Approvers read this.", ("purpose", "ticket", "labels")),
)

# Sections of two short fields, which stand side by side where there is room.
PAIRED = frozenset({"Who", "How long"})


class KeyForm(forms.Form):
    """What a person declares about a new key at one Connection."""

    draft = forms.CharField(widget=forms.HiddenInput, required=False, max_length=200)
    name = forms.CharField(
        max_length=naming.NAME_MAX * 2,
        help_text="Small letters, digits and hyphens. It never changes and is never used again.",
    )
    title = forms.CharField(
        max_length=120, required=False, help_text="What people call it. Empty: the name."
    )
    team = forms.ChoiceField(help_text="The team that owns it. Your team can see it.")
    backup_owner = forms.ChoiceField(
        required=False, label="Backup owner", help_text="Looks after it when you cannot."
    )
    environment = forms.ChoiceField()
    allowed_hosts = forms.CharField(
        required=False,
        label="Allowed hosts",
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text="Hosts that the key may be used against, one a line. Empty means any.",
    )
    volume_per_day = forms.IntegerField(
        min_value=1, max_value=1_000_000_000, label="Calls a day", initial=1000
    )
    external_input = forms.BooleanField(
        required=False,
        label="The agent reads text from outside",
        help_text="Mail, web pages, tickets: what it reads may try to steer it.",
    )
    delivery_mode = forms.ChoiceField(widget=forms.RadioSelect, label="Delivery", initial="reveal")
    lifetime_days = forms.IntegerField(
        min_value=1, max_value=DAYS_MAX, label="Lifetime in days", initial=90
    )
    cadence_days = forms.IntegerField(
        min_value=1, max_value=DAYS_MAX, label="New value every … days", initial=30
    )
    calendar_day = forms.ChoiceField(
        required=False,
        label="On a fixed day",
        help_text="The last such day before those are over. For a day of the month, 31 or more.",
    )
    calendar_time = forms.TimeField(
        required=False,
        label="At, in UTC",
        initial="09:00",
        input_formats=[_TIME],
        widget=forms.TimeInput(format=_TIME, attrs={"type": "time"}),
        help_text="Counts with a fixed day.",
    )
    purpose = forms.CharField(
        max_length=REASON_MAX,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="What it is for, and why now.",
    )
    ticket = forms.CharField(required=False, max_length=120)
    labels = forms.CharField(
        required=False, max_length=400, help_text="Words that policies and filters match on."
    )

    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        person: User,
        connection: Connection,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data, initial=dict(initial or {}))
        self.person, self.connection = person, connection
        self.options = tuple(connections.options_schema(connection.provider))
        proposed = connections.proposed_options(connection, "")
        self.fields |= option_fields(self.options, proposed)
        self._choose("team", [(team.slug, team.title) for team in new_key.teams(person)])
        others = [(str(other.pk), str(other)) for other in new_key.backups(person)]
        self._choose("backup_owner", [("", "Nobody"), *others])
        self._choose("environment", _environments(connection))
        self._choose("calendar_day", _calendar_days())
        self._choose("delivery_mode", new_key.deliveries(connection))
        if minting.mints(connection):
            # No value is kept that a person could see, or that could be replaced.
            for name in ("cadence_days", "calendar_day", "calendar_time"):
                del self.fields[name]
            self.initial["delivery_mode"] = new_key.LENT
        self.fields["draft"].initial = signing.dumps(str(uuid4()), salt=_DRAFT_SALT)

    @property
    def sections(self) -> list[dict[str, Any]]:
        """Return the form's parts in reading order; options of the provider come under What."""
        parts = []
        for title, hint, names in SECTIONS:
            more = [OPTION + field.name for field in self.options] if title == "What" else []
            parts.append(
                {
                    "title": title,
                    "hint": hint,
                    "css": "f-two" if title in PAIRED else "form",
                    "fields": [self[name] for name in (*names, *more) if name in self.fields],
                }
            )
        return parts

    def clean_name(self) -> str:
        """Return the name in its one form."""
        return _spoken(naming.key_name, self.cleaned_data["name"])

    def clean_allowed_hosts(self) -> tuple[str, ...]:
        """Return the hosts, sorted and once each."""
        return hosts(self.cleaned_data["allowed_hosts"])

    def clean_labels(self) -> tuple[str, ...]:
        """Return the labels, sorted and once each."""
        return labels(self.cleaned_data["labels"])

    def clean(self) -> dict[str, Any]:
        """Ask for the time of a fixed day."""
        data = self.cleaned_data
        if data.get("calendar_day") and data.get("calendar_time", "") is None:
            self.add_error("calendar_time", "Say the time, as in 09:00.")
        return data

    def blame(self, name: str, sentence: str) -> None:
        """Show a fault of what is declared beside the field it is about, or above all of them."""
        field = "calendar_day" if name == "calendar" else name
        self.add_error(field if field in self.fields else None, sentence)

    def key_id(self) -> UUID:
        """Return the id that this form gives its key; a forged one is replaced."""
        try:
            return UUID(signing.loads(self.cleaned_data.get("draft", ""), salt=_DRAFT_SALT))
        except (signing.BadSignature, ValueError):
            return uuid4()

    def declared(self) -> Declaration:
        """Return what is declared so far; what is missing or wrong takes its default."""
        data = self.cleaned_data
        given = {name: data[name] for name in _COPIED if data.get(name)}
        name = given.get("name", _UNNAMED)
        backup = data.get("backup_owner")
        return Declaration(
            **{"title": name, "environment": "", "team": "", "purpose": ""}
            | given
            | {"name": name, "external_input": bool(data.get("external_input"))},
            connection=self.connection.slug,
            calendar=_calendar(data.get("calendar_day"), data.get("calendar_time")),
            options=typed_options(self.options, data),
            backup_owner=UUID(backup) if backup else None,
        )

    def _choose(self, name: str, choices: list[tuple[str, Any]]) -> None:
        field = self.fields.get(name)
        if isinstance(field, forms.ChoiceField):
            field.choices = choices


_COPIED = (
    "name",
    "title",
    "environment",
    "team",
    "purpose",
    "allowed_hosts",
    "labels",
    "volume_per_day",
    "delivery_mode",
    "lifetime_days",
    "cadence_days",
)


def hosts(text: str) -> tuple[str, ...]:
    """Return the allowed hosts in a text. Raises ValidationError."""
    return _spoken(naming.hosts, text)


def labels(text: str) -> tuple[str, ...]:
    """Return the labels in a text. Raises ValidationError."""
    return _spoken(naming.labels, text)


def initial(declared: Declaration, *, keep_reason: bool) -> dict[str, Any]:
    """Return what fills the form with an earlier declaration; asking again needs a new reason."""
    values = declared.to_json()
    filled = {name: values[name] for name in (*_COPIED, "external_input")}
    filled |= {OPTION + name: value for name, value in new_key.typed_options(declared).items()}
    filled["allowed_hosts"] = "\n".join(declared.allowed_hosts)
    filled["labels"] = ", ".join(declared.labels)
    filled["backup_owner"] = str(declared.backup_owner or "")
    if declared.calendar:
        filled["calendar_day"], filled["calendar_time"] = declared.calendar.split()
    if not keep_reason:
        filled["purpose"] = ""
    return filled


def _calendar_days() -> list[tuple[str, Any]]:
    weekdays = zip(calendars.WEEKDAYS, calendar.day_name, strict=True)
    days = [(day, calendars.ordinal(int(day))) for day in calendars.MONTH_DAYS]
    return [
        ("", "No, on any day"),
        ("Day of the week", list(weekdays)),
        ("Day of the month", [*days, (calendars.LAST, "Last day")]),
    ]


def _calendar(day: str | None, at: time | None) -> str:
    return f"{day} {at:%H:%M}" if day and at else ""


def _environments(connection: Connection) -> list[tuple[str, str]]:
    rows = selectors.environments()
    if connection.environment is not None:
        rows = rows.filter(pk=connection.environment.pk)
    return [(row.slug, f"{row.title}, protected" if row.protected else row.title) for row in rows]


def _spoken(read: Callable[[str], _T], text: str) -> _T:
    try:
        return read(text)
    except naming.BadName as error:
        raise forms.ValidationError(str(error)) from error
