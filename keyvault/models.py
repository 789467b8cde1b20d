"""Gather the packages' models for Django; nobody else imports this module."""

from __future__ import annotations

from keyvault.accounts import devices  # noqa: F401
from keyvault.accounts import models as accounts  # noqa: F401
from keyvault.agents import devices as logins  # noqa: F401
from keyvault.agents import models as agents  # noqa: F401
from keyvault.api import models as api  # noqa: F401
from keyvault.audit import models as audit  # noqa: F401
from keyvault.audit.reads import models as reads  # noqa: F401
from keyvault.connections import models as connections  # noqa: F401
from keyvault.dependents import models as dependents  # noqa: F401
from keyvault.findings import models as findings  # noqa: F401
from keyvault.invalidation import models as invalidation  # noqa: F401
from keyvault.inventory import models as inventory  # noqa: F401
from keyvault.leases import models as leases  # noqa: F401
from keyvault.rotation import models as rotation  # noqa: F401
from keyvault.usage import models as usage  # noqa: F401
from keyvault.vault import models as vault  # noqa: F401
