"""Where granian enters: `granian --interface rsgi --factory keyvault.gateway.main:application`."""

from __future__ import annotations

import logging
import os

from keyvault.gateway import settings
from keyvault.gateway.segments import Segments
from keyvault.gateway.server import Application
from keyvault.launcher.children import die_with_parent
from keyvault.logs import Formatter


def application() -> Application:
    """Return the application of this process. Raises BadSetting."""
    die_with_parent()
    told = settings.load()
    _log_to_stderr(os.environ.get("KEYVAULT_LOG_LEVEL", "INFO"))
    return Application(told, Segments.open(told.segments, told.mode, told.database))


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
