"""A small HTTP server that keeps the contract of console and gateway, for tests of the client.

It can be told to be away, to end tokens and to move a version under its
readers. Both halves answer on one port.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

CLIENT_ID, SECRET = "4e5f6a7b-0000-4000-8000-000000000001", "kvs_the-secret-of-the-agent"
NEXT = {"action": "request_access", "api": "POST /api/v1/requests"}


@dataclass
class House:
    """What the server knows, and what it has been asked."""

    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    pending: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: int | None = None
    token_status: int | None = None
    lifetime_s: int = 900
    streams: bool = True
    retry_after: str = ""
    tokens: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    # An answer, or what makes one of the body that was sent.
    api: dict[tuple[str, str], Any] = field(default_factory=dict)
    device: list[dict[str, Any]] = field(default_factory=list)
    moved: threading.Condition = field(default_factory=threading.Condition)
    links: list[socket.socket] = field(default_factory=list)
    url: str = ""
    gateway_url: str = ""
    outside_url: str = ""

    def put(self, name: str, value: str | dict[str, str], **more: object) -> None:
        """Make a value the current version of a key and tell every watcher."""
        version = self.keys.get(name, {}).get("version", 0) + 1
        content = {"value": value} if isinstance(value, str) else {"fields": value}
        with self.moved:
            self.keys[name] = {
                "key": name,
                "version": version,
                "expires_at": None,
                "not_after": None,
                "etag": f"{name}-{version}",
                **content,
                **more,
            }
            self.moved.notify_all()

    def count(self, method: str, path: str) -> int:
        """Return how often an address was asked."""
        return self.asked.count((method, path))

    def hang_up(self) -> None:
        """Close every connection that a client keeps."""
        for link in self.links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def end_tokens(self) -> None:
        """End every token given so far."""
        self.ended.update(self.tokens)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    house: House

    def setup(self) -> None:
        """Note the connection."""
        super().setup()
        self.house.links.append(self.connection)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.house.asked.append(("GET", parts.path))
        if parts.path == "/.well-known/keyvault":
            self._say(200, self._addresses())
        elif parts.path == "/outside":
            self._say(200, {"value": f"outside for {parse_qs(parts.query)['audience'][0]}"})
        elif self._is_away() or not self._is_known():
            return
        elif parts.path == "/v1/watch":
            self._watch(parse_qs(parts.query)["names"][0].split(","))
        elif parts.path.startswith("/v1/keys/"):
            wanted = parse_qs(parts.query).get("version", ["current"])[0]
            self._key(parts.path.removeprefix("/v1/keys/"), wanted)
        else:
            self._api()

    def do_DELETE(self) -> None:
        self.house.asked.append(("DELETE", urlsplit(self.path).path))
        if not self._is_away() and self._is_known():
            self._api()

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self.house.asked.append(("POST", path))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"] or ""
        if not kind.startswith("application/x-www-form-urlencoded"):
            self.house.bodies.append(json.loads(body or b"{}"))
            if not self._is_away() and self._is_known():
                self._api()
            return
        self.house.forms.append({k: v[0] for k, v in parse_qs(body.decode()).items()})
        if path == "/token":
            self._token()
        else:
            self._say(200, self.house.device.pop(0))

    def _addresses(self) -> dict[str, str]:
        return {
            "console": self.house.url,
            "api": f"{self.house.url}/api/v1",
            "gateway": self.house.gateway_url or self.house.url,
            "token_endpoint": f"{self.house.url}/token",
            "device_authorization_endpoint": f"{self.house.url}/device",
        }

    def _token(self) -> None:
        house, form = self.house, self.house.forms[-1]
        if house.token_status:
            return self._say(house.token_status, {"error": "temporarily_unavailable"})
        if form["grant_type"].endswith("device_code"):
            answer = house.device.pop(0)
            status = answer.get("status", 400 if "error" in answer else 200)
            return self._say(status, answer)
        if form.get("client_secret", SECRET) != SECRET:
            return self._say(401, {"error": "invalid_client"})
        token = f"kvt_{len(house.tokens) + 1}"
        house.tokens.append(token)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": house.lifetime_s}
        return self._say(200, answer)

    def _is_away(self) -> bool:
        if self.house.status is None:
            return False
        more = {"Retry-After": self.house.retry_after} if self.house.retry_after else {}
        self._say(self.house.status, {"title": "away"}, **more)
        return True

    def _is_known(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        is_known = token in self.house.tokens and token not in self.house.ended
        if not is_known:
            self._say(401, {"title": "Who are you?"})
        return is_known

    def _key(self, name: str, wanted: str) -> None:
        found = (self.house.pending if wanted == "pending" else self.house.keys).get(name)
        if wanted.isdigit() and found and found["version"] != int(wanted):
            found = None
        if found is None:
            detail = "You have no key of this name."
            self._say(404, {"title": "No such key", "detail": detail, "next_action": NEXT})
        elif self.headers.get("If-None-Match") == f'"{found["etag"]}"':
            self._say(304, None)
        else:
            self._say(200, found)

    def _watch(self, names: list[str]) -> None:
        if not self.house.streams:
            return self._say(404, {"title": "No such page"})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b": welcome\n\n")
        seen = {name: self.house.keys[name]["version"] for name in names}
        while True:
            with self.house.moved:
                if not self.house.moved.wait(5):
                    return None
            for name in names:
                version = self.house.keys[name]["version"]
                if version != seen[name]:
                    seen[name] = version
                    event = json.dumps({"key": name, "version": version})
                    self.wfile.write(f"event: moved\ndata: {event}\n\n".encode())
                    self.wfile.flush()

    def _api(self) -> None:
        method, path = self.house.asked[-1]
        found = self.house.api.get((method, path), (404, {"title": "No such page"}))
        status, answer = found(self.house.bodies[-1]) if callable(found) else found
        self._say(status, answer)

    def _say(self, status: int, answer: dict[str, Any] | None, **headers: str) -> None:
        body = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running(port: int = 0) -> Iterator[House]:
    """Serve a house on loopback."""
    house = House()
    handler = type("Handler", (_Handler,), {"house": house})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    house.url = f"http://127.0.0.1:{server.server_port}"
    house.outside_url = f"{house.url}/outside"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield house
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
