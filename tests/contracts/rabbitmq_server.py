"""A RabbitMQ of Debian's package on free loopback ports, and the bench before it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from keyvault.crypto.secret import Secret
from keyvault.launcher import ports
from keyvault.providers.base import Issued
from keyvault.providers.rabbitmq import RabbitMQ
from keyvault.providers.testing import FaultProxy
from tests import certificates
from tests.contracts.servers import await_port
from tests.contracts.vendors.http_bench import HttpBench

START_S = 90.0
STOP_S = 30
# Debian's command of the same name in the path insists on directories of the system.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONFIGURATION = """
listeners.tcp.default = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
management.ssl.ip = 127.0.0.1
management.ssl.port = {https}
management.ssl.cacertfile = {certificate}
management.ssl.certfile = {certificate}
management.ssl.keyfile = {key}
default_user = root_mq
default_pass = {root}
"""


@dataclass(frozen=True, slots=True)
class RabbitTarget:
    """A RabbitMQ that keyvault administers with a user of its own."""

    amqp: int
    http: int
    https: int
    root_password: str
    admin: str
    admin_password: str
    authority: Path

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request as who may do everything; return the JSON of the answer."""
        reply = httpx.request(
            method,
            f"http://127.0.0.1:{self.http}/api/{path}",
            auth=("root_mq", self.root_password),
            json=body,
        )
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def users(self) -> list[str]:
        """Return the names of the users with our label."""
        return [one["name"] for one in self.ask("GET", "users") if one["name"].startswith("kv-")]

    def set_up(self) -> None:
        """Make the admin with the one tag that docs/providers/rabbitmq.md names."""
        body = {"password": self.admin_password, "tags": "administrator"}
        self.ask("PUT", f"users/{self.admin}", body)

    def clean(self) -> None:
        """Delete every user that keyvault made, which ends its connections."""
        for name in self.users():
            self.ask("DELETE", f"users/{name}")


@contextmanager
def rabbitmq(directory: Path) -> Iterator[RabbitTarget]:
    """Run a RabbitMQ, and the name server of its own that Erlang needs, for the block."""
    if not SERVER.exists():
        raise RuntimeError("These tests need RabbitMQ (Debian: rabbitmq-server).")
    amqp, http, https, names, distribution = ports.free(5)
    root, made = secrets.token_urlsafe(16), certificates.make(directory, "localhost")
    configuration = CONFIGURATION.format(
        amqp=amqp, http=http, https=https, certificate=made.path, key=made.key, root=root
    )
    (directory / "rabbitmq.conf").write_text(configuration)
    (directory / "plugins").write_text("[rabbitmq_management].\n")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_NODENAME": f"kv{names}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"
        " +S 2:2 +sbwt none",
    }
    target = RabbitTarget(amqp, http, https, root, "keyvault", secrets.token_urlsafe(16), made.path)
    with (directory / "server.log").open("wb") as output:
        register = subprocess.Popen(["epmd"], env=env, stdout=output, stderr=output)
        try:
            await_port(names)
            with _running([str(SERVER)], env, output) as process:
                _await(target, process)
                target.set_up()
                yield target
        finally:
            register.terminate()
            register.wait(STOP_S)


@contextmanager
def _running(command: list[str], env: dict[str, str], output: Any) -> Iterator[subprocess.Popen]:
    """Run a server that starts others, and end them all."""
    process = subprocess.Popen(
        command, env=env, stdout=output, stderr=output, start_new_session=True
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_S)


def _await(target: RabbitTarget, process: subprocess.Popen) -> None:
    give_up_at = time.monotonic() + START_S
    while True:
        try:
            target.ask("GET", "overview")
        except httpx.HTTPError:
            if time.monotonic() > give_up_at or process.poll() is not None:
                raise
            time.sleep(0.1)
        else:
            return


@dataclass
class RabbitBench(HttpBench):
    """Users on the target server."""

    target: RabbitTarget | None = None

    @classmethod
    def at(cls, target: RabbitTarget, proxy: FaultProxy) -> RabbitBench:
        return cls(
            provider=RabbitMQ(),
            proxy=proxy,
            config={"user": target.admin, "broker": f"amqp://127.0.0.1:{target.amqp}"},
            options={"vhost": "/", "configure": "^app-", "write": "^app-", "read": "^app-"},
            admin={"password": Secret.of(target.admin_password)},
            # The one request that gives a user its password, and the one that takes the user away.
            change=rb'"password_hash": "[^"]|DELETE /api/users',
            target=target,
        )

    @contextmanager
    def session(self, issued: Issued) -> Iterator[Amqp]:
        assert self.target is not None
        word = issued.material["password"].reveal().decode()
        session = Amqp(self.target.amqp, issued.public["username"], word, issued.public["vhost"])
        try:
            assert session.works()
            yield session
        finally:
            session.close()


class Amqp:
    """A connection of a program: as much of AMQP 0-9-1 as it takes to open channels."""

    def __init__(self, port: int, user: str, word: str, vhost: str) -> None:
        self.link = socket.create_connection(("127.0.0.1", port), 10)
        self.answers, self.channels = self.link.makefile("rb"), 0
        try:
            self._log_in(user, word, vhost)
        except (OSError, EOFError):
            self.close()
            raise

    def _log_in(self, user: str, word: str, vhost: str) -> None:
        self.link.sendall(b"AMQP\0\0\x09\x01")
        self.expect(10, 10)
        login = _long(f"\0{user}\0{word}".encode())
        self.send(0, 10, 11, struct.pack("!I", 0) + _short(b"PLAIN") + login + _short(b"en_US"))
        self.expect(10, 30)
        self.send(0, 10, 31, struct.pack("!HIH", 100, 131_072, 0))
        self.send(0, 10, 40, _short(vhost.encode()) + b"\0\0")
        self.expect(10, 41)

    def works(self) -> bool:
        """Open a channel and close it."""
        try:
            channel = self.open_channel()
            self.send(channel, 20, 40, struct.pack("!H", 200) + _short(b"") + bytes(4))
            self.expect(20, 41)
        except (OSError, EOFError):
            return False
        return True

    def open_channel(self) -> int:
        self.channels = self.channels % 100 + 1
        self.send(self.channels, 20, 10, b"\0")
        self.expect(20, 11)
        return self.channels

    def declare(self, queue: str) -> bool:
        """Say whether a queue of this name could be declared, on a channel of its own."""
        channel = self.open_channel()
        self.send(channel, 50, 10, b"\0\0" + _short(queue.encode()) + b"\0" + struct.pack("!I", 0))
        return self.receive() == (50, 11)

    def close(self) -> None:
        """Close the connection."""
        self.answers.close()
        self.link.close()

    def send(self, channel: int, group: int, method: int, arguments: bytes) -> None:
        payload = struct.pack("!HH", group, method) + arguments
        self.link.sendall(struct.pack("!BHI", 1, channel, len(payload)) + payload + b"\xce")

    def expect(self, group: int, method: int) -> None:
        """Read one answer. Raises ConnectionError when it is another one."""
        found = self.receive()
        if found != (group, method):
            raise ConnectionError(f"the server answered {found}")

    def receive(self) -> tuple[int, int]:
        head = self.answers.read(7)
        if len(head) != 7:
            raise EOFError
        (size,) = struct.unpack("!I", head[3:])
        group, method = struct.unpack("!HH", self.answers.read(size + 1)[:4])
        return group, method


def _short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _long(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text


def path_of(vhost: str) -> str:
    """Return a virtual host as one segment of a path."""
    return quote(vhost, safe="")
