"""One pass of recovery over a directory, for races of processes. No Django here."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import psycopg

from keyvault.gateway import segment_files, shipping


def once(directory: Path, database_url: str) -> None:
    """Recover whatever dead process can be had, until no file is left."""
    with psycopg.connect(database_url, autocommit=True) as link:
        while list(directory.iterdir()):
            for lock in segment_files.abandoned(directory, own=uuid4()):
                shipping.recover(link, lock)
