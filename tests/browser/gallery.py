"""The state gallery: pages in states that a live system shows rarely, served to tests only.

`/__states__/<name>/` renders a template with made-up values under the real
headers. It exists in this URL configuration and in no other.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace

from django import forms
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import include, path
from django.utils import timezone

from keyvault.accounts import gates
from keyvault.usage import selectors
from keyvault.web import geometry, shell, trust, usage_parts, vocabulary

LONG = "x" * 61 + "end"
HOSTILE = (
    "Please approve \u202eexe.gpj\u202c <script>alert(1)</script> [x](javascript:alert(1))\u200b"
)


class SampleForm(forms.Form):
    """A form with every kind of control."""

    name = forms.CharField(help_text="Lower-case letters, digits and dashes.")
    environment = forms.ChoiceField(choices=[("dev", "Development"), ("prod", "Production")])
    lifetime = forms.ChoiceField(
        choices=[("30", "30 days"), ("90", "90 days")],
        widget=forms.RadioSelect,
        help_text="Shorter is safer.",
    )
    hosts = forms.CharField(widget=forms.Textarea, required=False, label="Allowed hosts")
    volume = forms.IntegerField(label="Calls a day", required=False, min_value=0)
    sure = forms.BooleanField(label="The owner knows about this", required=False)


class FrameOfAlice(shell.Shell):
    """The frame with sample counts, so that no state needs a session."""

    signed_in = True
    initials = "AM"

    def __init__(self) -> None:
        """Take nothing from a request."""
        super().__init__(HttpRequest())
        self.trust = [
            trust.Line("ok", "Ledger", "signed 12 s ago"),
            trust.Line("warn", "Work", "1 job held"),
            trust.Line("ok", "Vault", "open"),
        ]

    def _work(self) -> list[shell.Entry]:
        return [
            shell.Entry("home", "home", "Overview", "/"),
            shell.Entry("inbox", "inbox", "Approvals", "/", counted=True, count=4, hot=True),
            shell.Entry("mine", "ask", "My requests", "/", counted=True, count=None),
        ]

    def _inventory(self) -> list[shell.Entry]:
        return [
            shell.Entry("keys", "key", "Keys", "/"),
            shell.Entry("agents", "bot", "Agents", "/"),
            shell.Entry("connections", "plug", "Connections", "/"),
        ]

    def _assurance(self) -> list[shell.Entry]:
        return [
            shell.Entry("audit", "audit", "Audit log", "/"),
            shell.Entry("people", "people", "People", "/"),
            shell.Entry("system", "pulse", "System", "/"),
        ]


def components(now: datetime) -> dict[str, object]:
    """Return one of everything."""
    long_ago = now - timedelta(days=200)
    bad_form = SampleForm({"name": "", "environment": "mars", "lifetime": "30", "volume": "-1"})
    return {
        "words": [(thing, sorted(states)) for thing, states in sorted(vocabulary.STATES.items())],
        "life": geometry.lifeline(
            created=long_ago,
            expires=now + timedelta(days=28),
            versions=[
                geometry.Version(1, long_ago, now - timedelta(days=60), "revoked"),
                geometry.Version(2, now - timedelta(days=60), now - timedelta(days=1), "previous"),
                geometry.Version(3, now - timedelta(days=1), None, "current"),
            ],
            now=now,
        ),
        "soon": now + timedelta(hours=20),
        "long": LONG,
        "hostile": HOSTILE,
        "form": SampleForm(),
        "bad_form": bad_form,
        "points": [
            {"points": 38, "title": "First write access", "evidence": "None before.", "link": "/"},
            {"points": 12, "title": "Long life", "evidence": "Three times what policy allows."},
            {"points": -5, "title": "The provider enforces a cap", "evidence": "Read at 11:10."},
        ],
        "changes": [
            {
                "field": "Scopes",
                "now": ["read", "list"],
                "then": ["read", "pay"],
                "warning": "moves money",
            },
            {
                "field": "Lifetime",
                "now": "30 days",
                "then": "90 days",
                "warning": "policy allows 30",
            },
            {"field": "Owner", "now": "", "then": LONG, "warning": ""},
        ],
        "items": [
            {"actor": "Alice Muster", "text": "asked", "at": long_ago, "quote": HOSTILE},
            {
                "actor": SimpleNamespace(kind="system", label="keyvault"),
                "text": "matched the policy prod",
                "at": long_ago,
                "note": "Two approvers were asked.",
            },
            {
                "actor": SimpleNamespace(kind="agent", label=LONG),
                "text": "approved",
                "at": now,
                "badge": ("ok", "authenticator", "phone"),
            },
        ],
        "facts": [("Owner", "Alice Muster"), ("Team", LONG), ("Nothing", "")],
        "page": {"newer": "", "older": "?after=x", "note": "50 a page, newest first"},
        "digest": "9f3c" * 16,
        "trend": [4, 5, 6, 5, 7, 8, 9, 8, 9, 10, 11, 10],
        "shares": [(1243, "sv-ok"), (28, "sv-warn"), (9, "sv-bad"), (4, "sv-mut")],
        "columns": geometry.histogram([(n * 7 % 31, n % 5 == 0) for n in range(48)]),
        "cells": geometry.heat([n * 5 % 13 for n in range(90)], urgent=frozenset({12})),
    }


def usage(now: datetime) -> dict[str, object]:
    """Return the use of a key at its worst: too much of it, unknown users, hostile hosts."""
    days = tuple(selectors.Bucket(now - timedelta(days=29 - n), n * 7919 % 9000) for n in range(30))
    hours = tuple(
        selectors.Bucket(
            (now - timedelta(hours=23 - n)).replace(minute=0), 0 if n % 5 == 0 else n * 997 % 800
        )
        for n in range(24)
    )
    users = tuple(
        selectors.Part(kind, name, count, now - timedelta(hours=count % 90))
        for kind, name, count in (
            ("agent", "refund-bot", 1_234_567),
            ("agent", LONG, 12),
            ("user", HOSTILE, 1),
            ("user", "somebody unknown", 3),
        )
    )
    hosts = tuple(
        selectors.Part(kind, name, 41, now)
        for kind, name in (("reported", LONG), ("gateway", "192.0.2.7"), ("reported", "*"))
    )
    found = selectors.Usage(
        since=days[0].at,
        total=1_234_583,
        last_at=now - timedelta(minutes=3),
        by_hour=hours,
        by_day=days,
        by_user=users,
        by_host=hosts,
        users=71,
        hosts=204,
        reported_day=9412,
    )
    key = SimpleNamespace(name="ledger-reader", allowed_hosts=["db.example.com"])
    return {
        "key": key,
        "agent": SimpleNamespace(name="refund-bot"),
        "agents_seen": frozenset(),
        **usage_parts.shown(key, found, declared=1000),
        "notices": [
            SimpleNamespace(
                get_kind_display="Key used for an undeclared host", sentence=HOSTILE, opened_at=now
            )
        ],
        "reports": [
            selectors.Single(now, "refund-bot", LONG, 9000, 2),
            selectors.Single(now, HOSTILE, "", 1, None),
        ],
    }


def no_usage(now: datetime) -> dict[str, object]:
    """Return a key that nobody has used."""
    nothing = selectors.Usage(
        since=now,
        total=0,
        last_at=None,
        by_hour=(selectors.Bucket(now, 0),) * 24,
        by_day=(selectors.Bucket(now, 0),) * 30,
    )
    key = SimpleNamespace(name="quiet-key", allowed_hosts=[])
    return {"key": key, **usage_parts.shown(key, nothing, declared=1000)}


STATES = {
    "components": ("states/components.html", components),
    "usage": ("states/usage.html", usage),
    "no-usage": ("states/usage.html", no_usage),
}


@gates.public
def state(request: HttpRequest, name: str) -> HttpResponse:
    """Render one state."""
    template, values = STATES[name]
    now = timezone.now()
    request.user = AnonymousUser()
    return render(request, template, {"now": now, "shell": FrameOfAlice(), **values(now)})


@gates.public
def fault(request: HttpRequest) -> HttpResponse:
    """Fail, so that a test can see the page for it."""
    raise RuntimeError("a fault made on purpose")


urlpatterns = [
    path("__states__/fault/", fault),
    path("__states__/<str:name>/", state, name="state"),
    path("", include("keyvault.urls")),
]

handler400 = "keyvault.web.errors.bad_request"
handler403 = "keyvault.web.errors.forbidden"
handler404 = "keyvault.web.errors.not_found"
handler500 = "keyvault.web.errors.broken"
