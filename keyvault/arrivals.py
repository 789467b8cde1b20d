"""Let a body arrive before anything else begins; nobody takes the threads by sending one slowly (R43).

The server hands a request over when its head is here. Whoever then reads the
body waits on a thread, without a time limit, so that sixteen callers who send
one byte each would stop the console for everybody. So a body is read by a
thread of its own, of which a source has few, and for some seconds at most: then
the console's thread goes on to others. The reader itself cannot be called off
and lasts as long as its connection; until then it counts against its source. A
proxy in front that buffers bodies is still the better wall.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import Lock, Thread

from django.http import HttpRequest, HttpResponse

from keyvault.accounts import lockout
from keyvault.audit import context

Next = Callable[[HttpRequest], HttpResponse]

# Of the console's sixteen threads, those that may wait for bodies; four more may wait for news.
WAITING = 8
# Readers, late ones among them: of one source, and of all together.
READERS_OF_SOURCE, READERS = 4, 256
WITHIN_S = 10.0
# As in the settings, which bound forms alone: files would go to the disk without an end.
MOST_BYTES = 1_000_000
_AGAIN_S = 1
_LENGTH_DIGITS = 12
_PASSING = (408, 503)


class Room:
    """Who reads bodies in this process, and how many of its threads wait for them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._readers: Counter[str] = Counter()
        self._waiting = 0

    def enter(self, source: str) -> bool:
        """Take a place for one body of a source; return whether there was one."""
        with self._lock:
            is_full = self._waiting >= WAITING or self._readers.total() >= READERS
            if is_full or self._readers[source] >= READERS_OF_SOURCE:
                return False
            self._readers[source] += 1
            self._waiting += 1
            return True

    def go_on(self) -> None:
        """Note that a thread of the console waits no longer."""
        with self._lock:
            self._waiting -= 1

    def leave(self, source: str) -> None:
        """Note that a reader has ended; a source without one is forgotten."""
        with self._lock:
            self._readers[source] -= 1
            self._readers += Counter()


room = Room()


class Bodies:
    """Read what a request brings before any other part of the console looks at it."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Run the request once its body is here; refuse one that is longer than any view takes."""
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not (length.isascii() and length.isdigit()):
            return _refusal(400, "Content-Length is not a number.")
        if len(length) > _LENGTH_DIGITS or int(length) > MOST_BYTES:
            return _refusal(413, f"A request brings at most {MOST_BYTES:,} bytes.")
        if int(length) == 0:
            return self.get_response(request)
        source = lockout.subscriber(context.current().ip)
        if not room.enter(source):
            return _refusal(503, "Too many requests are arriving at once. Try again.")
        if not _arrives(request, source):
            return _refusal(408, "The request did not arrive in time. Send it again.")
        return self.get_response(request)


def _arrives(request: HttpRequest, source: str) -> bool:
    """Read the body, which Django keeps; say whether it came within the time."""
    found: list[bytes] = []
    reader = Thread(target=_read, args=(request, source, found), name="body", daemon=True)
    try:
        reader.start()
        reader.join(WITHIN_S)
    finally:
        room.go_on()
    return bool(found)


def _read(request: HttpRequest, source: str, found: list[bytes]) -> None:
    try:
        found.append(request.body)
    except OSError:
        # The caller has gone in the middle of it: nobody is there to be answered.
        return
    finally:
        room.leave(source)


def _refusal(status: int, sentence: str) -> HttpResponse:
    headers = {"Retry-After": str(_AGAIN_S)} if status in _PASSING else {}
    return HttpResponse(sentence, status=status, content_type="text/plain", headers=headers)
