"""Let a body arrive before anything else begins; nobody takes the threads by sending one slowly (R43).

The server hands a request over when its head is here. Whoever then reads the
body waits on a thread, without a time limit, so that sixteen callers who send
one byte each would stop the console for everybody. So a body is read by a
thread of its own. One that is not here within a second is late: few of a source
are waited for, and whoever was late often is refused for a while. The reader
itself cannot be called off and lasts as long as its connection. A proxy in
front that buffers bodies is still the better wall.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import Condition, Thread

from django.http import HttpRequest, HttpResponse

from keyvault.accounts import lockout
from keyvault.api import limits
from keyvault.audit import context

Next = Callable[[HttpRequest], HttpResponse]

# Of the console's sixteen threads, those that may wait for bodies; four more may wait for news.
WAITING = 8
# Bodies that are being read, late ones among them: of one source, and of all together. The
# server stops answering when very many wait inside of it.
LATE_OF_SOURCE, LATE = 4, 256
SOON_S, WITHIN_S = 1.0, 10.0
# Late bodies of one source, whether they end or not: who begins anew all the time is slow as well.
TARDINESS = limits.Rate(per_s=0.5, burst=8)
# As in the settings, which bound forms alone: files would go to the disk without an end.
MOST_BYTES = 1_000_000
_AGAIN_S = 2
_LENGTH_DIGITS = 12
_PASSING = (408, 503)


class Reader(Thread):
    """Reads one body, which Django keeps."""

    def __init__(self, request: HttpRequest, source: str) -> None:
        super().__init__(name="body", daemon=True)
        self.source, self.has_body, self.has_ended, self.is_late = source, False, False, False
        self._request = request

    def run(self) -> None:
        """Read it to its end."""
        try:
            self.has_body = self._request.body is not None
        except OSError:
            # The caller has gone in the middle of it: nobody is there to be answered.
            return
        finally:
            room.ended(self)


class Room:
    """Which bodies are late in this process, and how many of its threads wait for them."""

    def __init__(self) -> None:
        self._lock = Condition()
        self._reading: Counter[str] = Counter()
        self._late: Counter[str] = Counter()
        self._waiting = 0

    def admits(self, source: str) -> bool:
        """Take a place for a body, at once or soon; return whether there is one.

        A source that has late bodies now, or had many lately, is not kept waiting.
        """
        if limits.take("late", source, TARDINESS, cost=0):
            return False
        with self._lock:
            self._lock.wait_for(lambda: self._is_decided(source), SOON_S)
            is_free = self._is_free(source)
            self._reading[source] += is_free
        return is_free

    def _is_free(self, source: str) -> bool:
        return self._reading[source] < LATE_OF_SOURCE and self._reading.total() < LATE

    def _is_decided(self, source: str) -> bool:
        return self._is_free(source) or self._late[source] >= LATE_OF_SOURCE

    def late(self, reader: Reader) -> bool:
        """Count a late body; return whether to go on waiting for it, until `go_on`."""
        limits.take("late", reader.source, TARDINESS)
        with self._lock:
            if not reader.has_ended:
                reader.is_late = True
                self._late[reader.source] += 1
                self._lock.notify_all()
            may = self._waiting < WAITING
            self._waiting += may
        return may

    def go_on(self) -> None:
        """Note that a thread of the console waits no longer."""
        with self._lock:
            self._waiting -= 1

    def ended(self, reader: Reader) -> None:
        """Note that a body has come or never will; a source without late ones is forgotten."""
        with self._lock:
            reader.has_ended = True
            self._reading[reader.source] -= 1
            self._late[reader.source] -= reader.is_late
            self._reading += Counter()
            self._late += Counter()
            self._lock.notify_all()


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
        return _arrival(request) or self.get_response(request)


def _arrival(request: HttpRequest) -> HttpResponse | None:
    """Read a body that is there or will be; return the refusal of one that is not."""
    source = lockout.subscriber(context.current().ip)
    if not room.admits(source):
        return _busy()
    reader = Reader(request, source)
    try:
        reader.start()
    except RuntimeError:
        # The system gives no more threads. Without one nobody else would give the place back.
        room.ended(reader)
        return _busy()
    reader.join(SOON_S)
    if not reader.has_ended:
        if not room.late(reader):
            return _busy()
        _await(reader)
    if not reader.has_body:
        return _refusal(408, "The request did not arrive in time. Send it again.")
    return None


def _await(reader: Reader) -> None:
    try:
        reader.join(WITHIN_S - SOON_S)
    finally:
        room.go_on()


def _busy() -> HttpResponse:
    return _refusal(503, "Too many requests are arriving slowly. Try again.")


def _refusal(status: int, sentence: str) -> HttpResponse:
    headers = {"Retry-After": str(_AGAIN_S)} if status in _PASSING else {}
    return HttpResponse(sentence, status=status, content_type="text/plain", headers=headers)
