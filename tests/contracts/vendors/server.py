"""A small JSON server on loopback: what the fakes of vendors have in common.

A fake answers by `answer`; faults that a test orders come first. Everything that was asked
is in `asked`, without bodies and without credentials.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request, taken apart."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any = None


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A refusal in the vendor's own form; `Vendor.refusal` gives it its body."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


class Vendor:
    """One vendor's state behind a lock, so that requests are applied one after the other."""

    routes: ClassVar[tuple[tuple[str, str, str], ...]] = ()

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.faults: deque[Answer] = deque()
        self.asked: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def refusal(self, refused: Refused) -> Any:
        raise NotImplementedError

    def limit(self, times: int = 1, *, retry_after: str = "7") -> None:
        """Answer the next requests with 429."""
        self.fail(429, times, headers={"Retry-After": retry_after})

    def fail(
        self, status: int, times: int = 1, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer the next requests with this status and change nothing."""
        body = self.refusal(Refused(status, "server_error", "This is a fault on purpose."))
        self.faults.extend([Answer(status, body, headers or {})] * times)

    def answer(self, asked: Asked) -> Answer:
        """Return the answer of the first route that fits, or the ordered fault."""
        with self.lock:
            self.asked.append(f"{asked.method} {asked.path}")
            if self.faults:
                return self.faults.popleft()
            try:
                return Answer(200, self._route(asked))
            except Refused as refused:
                return Answer(refused.status, self.refusal(refused))

    def _route(self, asked: Asked) -> Any:
        for method, pattern, name in self.routes:
            found = re.fullmatch(pattern, asked.path)
            if found and method == asked.method:
                return getattr(self, name)(asked, *map(unquote, found.groups()))
        raise Refused(404, "not_found", f"Unknown request URL: {asked.method} {asked.path}.")


@contextmanager
def serving(vendor: Vendor) -> Iterator[Vendor]:
    """Run a fake on a free port for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def handle_one(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            sent = self.rfile.read(length)
            if len(sent) < length:  # Half a request is no request.
                self.close_connection = True
                return
            parts = urlsplit(self.path)
            asked = Asked(
                self.command,
                parts.path,
                dict(parse_qsl(parts.query)),
                {name.lower(): text for name, text in self.headers.items()},
                _json(sent),
            )
            self._send(vendor.answer(asked))

        # The names that http.server looks for.
        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815

        def _send(self, answer: Answer) -> None:
            body = json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, text in answer.headers.items():
                self.send_header(name, text)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Connections that a test breaks on purpose are no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        vendor.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield vendor
        finally:
            server.shutdown()
            thread.join(5)


def page(
    rows: list[dict[str, Any]], after: str | None, limit: str | None, *, most: int
) -> tuple[list[dict[str, Any]], bool]:
    """Return one page of rows and whether more follow, as both vendors count.

    Raises Refused on a limit outside 1 to `most` and on a cursor that names nothing.
    """
    size = int(limit) if (limit or "20").isdigit() and limit else 20
    if not 1 <= size <= most or (limit is not None and not limit.isdigit()):
        raise Refused(400, "invalid_request_error", f"limit must be from 1 to {most}.")
    ids = [row["id"] for row in rows]
    if after is not None and after not in ids:
        raise Refused(400, "invalid_request_error", "The cursor names nothing.")
    start = ids.index(after) + 1 if after is not None else 0
    return rows[start : start + size], start + size < len(rows)


def _json(sent: bytes) -> Any:
    try:
        return json.loads(sent) if sent else None
    except ValueError:
        return None
