"""What a person types on an approvals page. Text is bounded; nothing is preselected."""

from __future__ import annotations

from django import forms

from approvals.policy.judging import Verdict
from approvals.services.states import TEXT_LIMIT

DIGEST_CHARS = 64


class DecideForm(forms.Form):
    """One decision on one revision. `seen` is the signed record of what the page showed."""

    verdict = forms.ChoiceField(
        label="Decision",
        choices=[(verdict.value, verdict.value) for verdict in Verdict],
        error_messages={"required": "Choose a decision first."},
    )
    plan_digest = forms.RegexField(r"^[0-9a-f]{64}$", max_length=DIGEST_CHARS)
    comment = forms.CharField(label="Note to requester", required=False, max_length=TEXT_LIMIT)
    seen = forms.CharField(required=False, max_length=100_000)


class CommentForm(forms.Form):
    """A remark that decides nothing."""

    text = forms.CharField(
        label="Comment",
        max_length=TEXT_LIMIT,
        widget=forms.Textarea(attrs={"rows": 2}),
        error_messages={"required": "Write something first."},
    )
