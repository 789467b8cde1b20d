"""Example Inc.'s API on loopback, with state: enough for the plug-in's promises to be tried."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 2


class Vendor:
    """The keys that exist, by id: name and value."""

    def __init__(self) -> None:
        self.admin = secrets.token_urlsafe(16)
        self.keys: dict[str, tuple[str, str]] = {}
        self.port = 0

    def answer(self, method: str, target: str, key: str, sent: bytes) -> tuple[int, object]:
        parts = urlsplit(target)
        if parts.path == "/me":
            found = [name for name, (_, value) in self.keys.items() if value == key]
            return (200, {"key": found[0]}) if found else (401, {})
        if key != self.admin:
            return 401, {}
        if (method, parts.path) == ("POST", "/keys"):
            remote_id, value = secrets.token_hex(8), secrets.token_urlsafe(24)
            self.keys[remote_id] = (json.loads(sent)["name"], value)
            return 201, {"id": remote_id, "value": value}
        if (method, parts.path) == ("GET", "/keys"):
            return 200, self.page(int(parse_qs(parts.query)["page"][0]))
        if method == "DELETE" and self.keys.pop(unquote(parts.path[len("/keys/") :]), None):
            return 200, {"deleted": True}
        return 404, {}

    def page(self, number: int) -> object:
        rows = [{"id": remote_id, "name": name} for remote_id, (name, _) in self.keys.items()]
        pages = -(-len(rows) // PAGE)
        return {"keys": rows[(number - 1) * PAGE : number * PAGE], "pages": pages}


@contextmanager
def serving() -> Iterator[Vendor]:
    vendor = Vendor()

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def handle_one(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            sent = self.rfile.read(length)
            if len(sent) < length:
                return
            key = self.headers.get("authorization", "").removeprefix("Bearer ")
            status, found = vendor.answer(self.command, self.path, key, sent)
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = handle_one

        def log_message(self, *words: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Connections that a test breaks on purpose are no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        vendor.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield vendor
        finally:
            server.shutdown()
