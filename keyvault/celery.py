"""The Celery application: it carries ids, and a lost message loses nothing."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyvault.settings")

app = Celery("keyvault")
app.conf.update(
    broker_url=settings.BROKER_URL,
    broker_connection_retry_on_startup=True,
    # A publish may never hang its caller: the row in PostgreSQL is the truth.
    broker_transport_options={
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "health_check_interval": 15,
        "visibility_timeout": 300,
        "global_keyprefix": f"keyvault:{urlsplit(settings.PUBLIC_URL).netloc}:",
    },
    broker_pool_limit=2,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    result_backend=None,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    enable_utc=True,
)
app.autodiscover_tasks(["approvals", "keyvault"])
