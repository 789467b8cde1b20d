"""People without a browser, for flows over a running stack: plain HTTP, forms read and sent."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

from tests import cleartext
from tests.servers import Stack

WAIT_S = 60
_CHOSEN = {"radio", "checkbox", "submit"}


@dataclass
class Form:
    """A form as a browser would send it: where to, and what it holds untouched."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Reader(HTMLParser):
    """Collect the forms and the links of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self._open: Form | None = None
        self._select = self._area = ""
        self._is_first = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in at:
            self.links.append(at["href"])
        if tag == "form":
            self._open = Form(at.get("action", ""))
            self.forms.append(self._open)
        elif self._open is not None:
            self._field(tag, at, self._open.fields)

    def _field(self, tag: str, at: dict[str, str], fields: dict[str, str]) -> None:
        name = at.get("name", "")
        if tag == "input" and name:
            if at.get("type") not in _CHOSEN or "checked" in at:
                fields[name] = at.get("value", "")
        elif tag in {"select", "textarea"}:
            self._select, self._area = (name, "") if tag == "select" else ("", name)
            self._is_first = True
            fields.setdefault(name, "")
        elif tag == "option" and self._select:
            if self._is_first or "selected" in at:
                fields[self._select] = at.get("value", "")
            self._is_first = False

    def handle_data(self, data: str) -> None:
        if self._open is not None and self._area:
            # A newline right after the tag is not part of the text.
            held = self._open.fields[self._area]
            self._open.fields[self._area] = held + data if held else data.removeprefix("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        if tag in {"select", "textarea"}:
            self._select = self._area = ""


def read(text: str) -> _Reader:
    """Return the forms and links of a page."""
    reader = _Reader()
    reader.feed(text)
    return reader


@dataclass
class Visitor:
    """One person of the demo with a session, and every answer the console gave them."""

    name: str
    stack: Stack
    http: httpx.Client
    seen: list[httpx.Response] = field(default_factory=list)

    def get(self, path: str) -> httpx.Response:
        """Open an address of the console."""
        return self._kept(self.http.get(path))

    def post(self, path: str, fields: dict[str, str]) -> httpx.Response:
        """Send a form to an address, as a page of the console would."""
        token = {"csrfmiddlewaretoken": self._token()}
        return self._kept(self.http.post(path, data=token | fields))

    def send(self, path: str, holding: str, **typed: str) -> httpx.Response:
        """Open a page, fill in the form that holds a field, send it, and give a code if asked."""
        page = self.get(path)
        form = next((f for f in read(page.text).forms if holding in f.fields), None)
        assert form is not None, f"{page.status_code} {path} has no form with {holding}"
        return self.confirmed(self.post(urljoin(path, form.action), form.fields | typed))

    def confirmed(self, page: httpx.Response) -> httpx.Response:
        """Give a fresh code when the answer is the step-up page."""
        for form in read(page.text).forms:
            if "otp_code" in form.fields:
                fields = form.fields | {"otp_code": self.stack.code(self.name)}
                return self.post(urljoin(page.request.url.path, form.action), fields)
        return page

    def decide(self, path: str, verdict: str = "approve", comment: str = "") -> httpx.Response:
        """Open a request, choose a decision, sign it with a code."""
        return self.send(path, "plan_digest", verdict=verdict, comment=comment)

    def crawl(self, *starts: str, most: int, alike: int = 4) -> list[httpx.Response]:
        """Follow the links of the console from some pages on; GET only.

        At most `most` pages, and `alike` of those whose addresses differ only in ids.
        """
        waiting, known, answers = list(starts), Counter(map(_shape, starts)), []
        seen = set(starts)
        while waiting and len(answers) < most:
            path = waiting.pop(0)
            answers.append(self.get(path))
            for target in _links(answers[-1], path):
                if target not in seen and known[_shape(target)] < alike:
                    seen.add(target)
                    known[_shape(target)] += 1
                    waiting.append(target)
        return answers

    def _kept(self, answer: httpx.Response) -> httpx.Response:
        self.seen.append(answer)
        return answer

    def _token(self) -> str:
        found = next((c.value for c in self.http.cookies.jar if "csrf" in c.name), "")
        return str(found)


def _links(answer: httpx.Response, path: str) -> Iterator[str]:
    if "html" not in answer.headers.get("content-type", ""):
        return
    for link in read(answer.text).links:
        where = urlsplit(urljoin(path, link))
        if not where.netloc and not where.path.startswith("/static/"):
            yield where.path + (f"?{where.query}" if where.query else "")


def _shape(target: str) -> str:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+|=[^&]*", "#", target)


@contextmanager
def visitor(stack: Stack, name: str) -> Iterator[Visitor]:
    """Sign a person of the demo in with password and code, over plain HTTP."""
    with cleartext.Client(base_url=stack.url, follow_redirects=True, timeout=WAIT_S) as http:
        person = Visitor(name, stack, http)
        password = stack.people()[name]["password"]
        person.send("/auth/login/", "password", username=name, password=password)
        answer = person.send("/auth/mfa/", "code", code=stack.code(name))
        assert answer.status_code == 200, answer.text
        assert answer.url.path != "/auth/mfa/", answer.text
        yield person


def state_of(stack: Stack, path: str) -> str:
    """Return the state of the request that a path leads to, from the database."""
    with stack.sql() as link:
        found = link.execute(
            "SELECT state FROM approvals_request WHERE id = %s", [request_id(path)]
        ).fetchone()
    assert found is not None
    return str(found[0])


def request_id(path: str) -> str:
    """Return the id in a request's path."""
    return path.strip("/").split("/")[-1]


def await_state(stack: Stack, path: str, *wanted: str, seconds: float = WAIT_S) -> None:
    """Wait until a request is in one of some states."""
    until = time.monotonic() + seconds
    while (state := state_of(stack, path)) not in wanted:
        assert time.monotonic() < until, f"{path} is {state}, not {wanted}"
        time.sleep(0.1)
