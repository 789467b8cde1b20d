"""Remove tokens and spent assertions that no longer count for anything."""

from __future__ import annotations

from datetime import datetime, timedelta

from keyvault.agents.models import AccessToken, UsedAssertion

KEEP = timedelta(days=30)
AT_ONCE = 5000


def tidy(*, now: datetime) -> None:
    """Delete assertions that would be refused for their age, and tokens dead for 30 days.

    Neither is a record: the ledger holds who got which token and when it
    ended. A token that another row still names stays until that row is gone.
    """
    UsedAssertion.objects.filter(expires_at__lt=now).delete()
    links = AccessToken._meta.related_objects  # noqa: SLF001 - a documented name of Django's.
    unnamed = {f"{link.name}__isnull": True for link in links}
    dead = AccessToken.objects.filter(expires_at__lt=now - KEEP, **unnamed)
    ids = list(dead.order_by("expires_at").values_list("pk", flat=True)[:AT_ONCE])
    AccessToken.objects.filter(pk__in=ids).delete()
