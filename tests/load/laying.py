"""Inside a running demo: lay the keys of `rotating` at places, and wait until they lie there.

    python -m tests.load.laying DIRECTORY BAO_URL BAO_TOKEN    (prints the places of each key, as JSON)

The Connections and places are made as approved requests would make them; what
is written there is written by the installation's own worker.
"""

# ruff: noqa: E402 - the models can be imported once Django is set up.

from __future__ import annotations

import json
import sys
import time
from uuid import uuid4

import django

django.setup()

from django.db import transaction
from django.utils import timezone

from approvals.ports import Actor
from keyvault.connections import drafts, kinds, services
from keyvault.connections.drafts import Draft
from keyvault.connections.models import Connection
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent, Push
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key
from keyvault.rotation import delivering

BENCH = Actor("system", "bench", "Benchmark")
PARTS = {
    "rotated-role": ("password", "username", "host", "port", "database"),
    "rotated-user": ("password", "username", "host", "port"),
}
PATIENCE_S = 60


def main(directory: str, url: str, token: str) -> None:
    """Lay both keys in two files and one secret each; the first file is the canary."""
    files = _connect("files", "env_file", {"directory": directory}, {}, ())
    bao = _connect("bao", "openbao", {"address": url, "mount": "secret"}, {"token": token}, (url,))
    shelves = {}
    for name, parts in PARTS.items():
        key = Key.objects.get(name=name)
        variables = " ".join(f"{part}={part.upper()}" for part in parts)
        fields = " ".join(f"{part}={part}" for part in parts)
        for wave, file in enumerate((f"{name}-canary.env", f"{name}.env")):
            plain = {"file": file, "variables": variables, "format": "plain", "mode": "0600"}
            _lay(key, files, plain, name=file, wave=wave)
        _lay(key, bao, {"path": f"apps/{name}", "fields": fields}, name="OpenBao", wave=1)
        shelves[name] = [
            {"kind": "file", "path": f"{directory}/{name}-canary.env"},
            {"kind": "file", "path": f"{directory}/{name}.env"},
            {"kind": "bao", "url": url, "token": token, "path": f"apps/{name}"},
        ]
    _wait()
    sys.stdout.write(json.dumps(shelves) + "\n")


def _connect(
    slug: str, kind: str, config: dict, credential: dict, hosts: tuple[str, ...]
) -> Connection:
    now, proposal = timezone.now(), uuid4()
    draft = Draft(slug=slug, title=slug, provider=kind, config=config, allowed_hosts=hosts)
    schema = kinds.registered(kind).plugin.config_schema
    with transaction.atomic():
        fingerprint = services.propose(proposal_id=proposal, credential=credential, now=now)
        return services.create(
            connection_id=uuid4(),
            draft=drafts.clean(draft, schema=schema),
            fingerprint=fingerprint if credential else "",
            proposal_id=proposal,
            request_id=None,
            actor=BENCH,
            now=now,
        )


def _lay(key: Key, where: Connection, target: dict, *, name: str, wave: int) -> None:
    with transaction.atomic():
        row = dependents.register_place(
            key=inventory.lock(key_id=key.pk),
            name=name,
            connection=where,
            target=target,
            wave=wave,
            cache_s=0,
            request_id=uuid4(),
            now=timezone.now(),
            actor=BENCH,
        )
        delivering.promise(row.pk)


def _wait() -> None:
    until = time.monotonic() + PATIENCE_S
    places = Dependent.objects.filter(connection__isnull=False)
    while left := places.exclude(push=Push.THERE):
        if time.monotonic() > until:
            sys.exit("; ".join(f"{row.name}: {row.push} {row.push_note}" for row in left))
        time.sleep(0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])
