"""The part of a form that holds the settings of one credential, drawn from what its provider needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django import forms

if TYPE_CHECKING:
    from keyvault.providers.base import Field

OPTION = "option_"
TEXT_MAX = 4000


def option_fields(schema: Sequence[Field], proposed: Mapping[str, str]) -> dict[str, forms.Field]:
    """Return a form field for each setting, by its name in the form."""
    return {OPTION + entry.name: _field(entry, proposed.get(entry.name, "")) for entry in schema}


def typed_options(schema: Sequence[Field], data: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that a form holds; those left empty are left out."""
    found = {entry.name: str(data.get(OPTION + entry.name) or "") for entry in schema}
    return {name: text for name, text in found.items() if text}


def _field(field: Field, proposed: str) -> forms.Field:
    """Return the form field for one setting; left empty, it takes what the provider proposes."""
    more: dict[str, Any] = {
        "label": field.label,
        "help_text": field.help,
        "required": field.required and not proposed,
        "initial": proposed or field.default or None,
    }
    if field.kind == "choice":
        return forms.ChoiceField(choices=field.choices, **more)
    if field.kind == "number":
        return forms.IntegerField(min_value=0, **more)
    widget = forms.Textarea(attrs={"rows": 3}) if field.kind == "longtext" else forms.TextInput
    return forms.CharField(max_length=TEXT_MAX, widget=widget, **more)
