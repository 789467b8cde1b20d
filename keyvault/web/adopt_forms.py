"""The form that asks to adopt one existing key: that of a new key, and its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms

from keyvault.actions.new_adoption import MOST_BYTES, Found
from keyvault.web.key_forms import KeyForm

if TYPE_CHECKING:
    from keyvault.connections.models import ShadowKey

_VALUE = ("Value", "Sealed at once; nobody can read it back.", ("value",))
_AGAIN = "Paste it exactly as it was issued. For safety it is never shown again after an error."


class AdoptForm(KeyForm):
    """What a person declares about a key that exists already, and its value."""

    value = forms.CharField(
        max_length=MOST_BYTES,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=_AGAIN,
    )

    @property
    def sections(self) -> list[dict[str, Any]]:
        """Return the form's parts in reading order, the value first of all that is asked for."""
        title, hint, names = _VALUE
        value = {"title": title, "hint": hint, "css": "form", "fields": [self[n] for n in names]}
        first, *others = super().sections
        return [first, value, *others]

    def found(self, shadow: ShadowKey | None) -> Found:
        """Return what is brought. `shadow`: which credential at the provider it is."""
        return Found(
            declared=self.declared(),
            value=self.cleaned_data["value"],
            remote_id=shadow.remote_id if shadow else "",
        )

    def blame(self, name: str, sentence: str) -> None:
        """Show a fault beside the field that it is about, or above all of them."""
        self.add_error(name if name in self.fields else None, sentence)
