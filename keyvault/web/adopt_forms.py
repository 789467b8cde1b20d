"""The form that asks to adopt one existing key: that of a new key, and its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms

from keyvault.accounts import selectors as people
from keyvault.actions import new_key
from keyvault.actions.new_adoption import MOST_BYTES, Found
from keyvault.web.key_forms import KeyForm

if TYPE_CHECKING:
    from django.http import QueryDict

    from keyvault.accounts.models import User
    from keyvault.connections.models import Connection, ShadowKey

ADMINISTRATORS = "administrators"
_VALUE = ("Value", "Sealed at once; nobody can read it back.", ("value",))
_AGAIN = "Paste it exactly as it was issued. For safety it is never shown again after an error."


class AdoptForm(KeyForm):
    """What a person declares about a key that exists already, and its value.

    Whoever sees a shadow key often belongs to no team, and brings it for somebody who does.
    """

    owner = forms.ChoiceField(
        required=False, help_text="Who answers for it, in a team that both of you belong to."
    )
    value = forms.CharField(
        max_length=MOST_BYTES,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=_AGAIN,
    )

    def __init__(
        self, data: QueryDict | None = None, *, person: User, connection: Connection
    ) -> None:
        super().__init__(data, person=person, connection=connection)
        others = [(other.username, str(other)) for other in new_key.backups(person)]
        self._choose("owner", [("", "Yourself"), *others])
        if people.has_role(person, ADMINISTRATORS):
            self.fields["owner"].help_text = "Who answers for it."
            self._choose("team", [(team.slug, team.title) for team in people.teams("team")])

    @property
    def sections(self) -> list[dict[str, Any]]:
        """Return the form's parts in reading order, the value first of all that is asked for."""
        title, hint, names = _VALUE
        value = {"title": title, "hint": hint, "css": "form", "fields": [self[n] for n in names]}
        what, who, *others = super().sections
        owned = {**who, "fields": [self["owner"], *who["fields"]]}
        return [what, value, owned, *others]

    def found(self, shadow: ShadowKey | None) -> Found:
        """Return what is brought. `shadow`: which credential at the provider it is."""
        return Found(
            declared=self.declared(),
            value=self.cleaned_data["value"],
            owner=self.cleaned_data["owner"],
            remote_id=shadow.remote_id if shadow else "",
        )
