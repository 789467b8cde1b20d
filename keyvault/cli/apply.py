"""`keyvault apply FILE.toml`: make what is say what a file declares.

Titles and dependents change at once. What policies read is asked for: one
request for the file, as far as the server takes it. Doing it again does what is
left, and asks nothing a second time.
"""

from __future__ import annotations

import shlex
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyvault.cli import connecting, planned, planned_words, planning, printing
from keyvault.cli.codes import Exit
from keyvault.cli.declared import DEPENDENTS, TITLE
from keyvault.cli.planned import Plan, Planned
from keyvault.launcher.arguments import Arguments
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from argparse import Namespace

    from keyvault.client import Client, Refused
    from keyvault.client.calls import Answer, Flow

JSON = Any
LONGEST_S, WAIT_S, ROUND_S = 3600.0, 20, 10
_QUICK_S, _AGAIN_S = 0.5, 2.0
_OPEN = frozenset({"draft", "pending", "changes_asked", "approved", "executing"})
_CHANGED = 412
_TOO_DIFFERENT = "urn:keyvault:problem:too-different"
_COLUMNS = {"label": "request", "state": "state", "approvals": "approvals", "page": "page"}


def run(argv: Sequence[str]) -> int:
    """Show the differences, ask, and make the changes. Raises Stop."""
    given = _parse(argv)
    with connecting.connected() as caller:
        plan = planning.of(caller.client, given.file)
        if not given.json:
            planned_words.tell(plan, coloured=planned_words.is_coloured())
        done = _Done()
        if plan.count:
            _agree(plan, given)
            _Hands(caller.client, given, done).do(plan)
        return _end(caller.client, given, done)


def _parse(argv: Sequence[str]) -> Namespace:
    parser = Arguments(prog="keyvault apply", description="Make the changes that a file declares.")
    parser.add_argument("file", type=Path, metavar="FILE.toml")
    parser.add_argument("--reason", default="", help="why, for those who decide")
    parser.add_argument("--ticket", default="", help="where your policy asks for one")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--wait", action="store_true", help="until what was asked is done")
    parser.add_argument(
        "--timeout", type=float, default=LONGEST_S, metavar="S", help="seconds to wait, 3600"
    )
    parser.add_argument("--json", action="store_true", help="for programs; needs --yes")
    given = parser.parse_args(argv)
    if not 0 < given.timeout < float("inf"):
        raise Stop("--timeout takes a number of seconds above 0.", code=Exit.USAGE)
    return given


def _agree(plan: Plan, given: Namespace) -> None:
    """Have a person agree to the plan. Raises Stop."""
    if plan.asked() and not given.reason.strip():
        raise Stop(
            "Policy decides about a part of it. Say why, for those who decide: --reason WHY",
            code=Exit.USAGE,
        )
    if given.yes:
        return
    if given.json or not sys.stdin.isatty():
        raise Stop("Nobody can be asked here. Say --yes to make the changes.", code=Exit.USAGE)
    print("Make these changes? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Stop("Nothing was changed.")


@dataclass
class _Done:
    """What was changed and asked so far."""

    changed: list[str] = field(default_factory=list)
    requests: dict[str, Mapping[str, JSON]] = field(default_factory=dict)

    def add(self, row: Mapping[str, JSON]) -> None:
        """Note a request, new or known."""
        self.requests[str(row["id"])] = row


@dataclass
class _Hands:
    """Make the changes of a plan, one after the other, and say each."""

    client: Client
    given: Namespace
    done: _Done

    def do(self, plan: Plan) -> None:
        """Change what may be changed at once, then ask for the rest. Raises Stop."""
        from keyvault.client import Refused  # noqa: PLC0415 - with it come sockets and TLS.

        etags: dict[str, str] = {}
        doing = ""
        try:
            for one in plan.keys:
                doing = one.name
                if one.has(TITLE):
                    etags[one.name] = self._rename(one)
                if one.has(DEPENDENTS):
                    self._replace(one)
            doing = ""
            for batch in planned.calls(plan.asked()):
                self._ask(batch, etags)
        except Refused as refused:
            raise self._stop(refused, doing) from None
        for row in plan.waiting():
            self.done.add(row)
            self._say(f"{row['label']} asks for a part of this already; it was not asked again.")

    def _rename(self, one: Planned) -> str:
        """Give a key its title and return the ETag that it has since."""
        answer = self._written(
            "PATCH",
            planning.key_path(one.name),
            body={"title": one.declared.title},
            headers=_if_match(one.seen.etag),
        )
        self._note(f"{one.name}: title")
        return answer.headers.get("etag", "")

    def _replace(self, one: Planned) -> None:
        """Replace the list of who uses a key."""
        self._written(
            "PUT",
            f"{planning.key_path(one.name)}/dependents",
            body={"dependents": list(one.declared.dependents or ())},
            headers=_if_match(one.seen.dependents_etag),
        )
        self._note(f"{one.name}: dependents")

    def _ask(self, batch: Sequence[Planned], etags: Mapping[str, str]) -> None:
        """Ask for the keys of a batch by one request, or by one each where policies need that."""
        from keyvault.client import Refused  # noqa: PLC0415 - see above.

        try:
            self._file(batch, etags)
        except Refused as refused:
            if refused.problem.get("type") != _TOO_DIFFERENT or len(batch) == 1:
                raise
            self._say("Policies cannot judge these keys at once, so each is a request of its own.")
            for one in batch:
                self._file([one], etags)

    def _file(self, batch: Sequence[Planned], etags: Mapping[str, str]) -> None:
        body = {
            "keys": [planned.body_of(one, etag=etags.get(one.name, "")) for one in batch],
            "reason": self.given.reason,
            "ticket": self.given.ticket,
        }
        # A lost answer may be asked for again; the server knows an equal request that is open.
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        self.done.add(self._written("POST", "/changes", body=body, headers=headers).json())

    def _written(
        self, method: str, path: str, *, body: Mapping[str, JSON], headers: Mapping[str, str]
    ) -> Answer:
        """Send one change; where that is too often for the server, wait and go on."""

        def flow() -> Flow[Answer]:
            return self.client.core.answer(method, path, body=body, headers=headers)

        return planning.patiently(flow, self.client, is_write=True)

    def _stop(self, refused: Refused, doing: str) -> Stop:
        """Return the end of a plan that was refused on the way: what was done, and the mend."""
        about = f"{doing}: " if doing else ""
        text = printing.plain(f"{about}{refused}")
        if refused.status == _CHANGED:
            faults = [str(one.get("detail", "")) for one in refused.problem.get("errors", [])]
            who = " ".join(map(printing.plain, faults)) or f"{doing} has changed since."
            text = f"{who} Nothing of it was written over. Look again: keyvault plan {shlex.quote(str(self.given.file))}"
        elif isinstance(refused.next_action, dict):
            text += self._way_out(refused.next_action)
        before = f" Done before that: {', '.join(self.done.changed)}." if self.done.changed else ""
        return Stop(f"{text}{before}", code=Exit.REFUSED)

    def _way_out(self, action: Mapping[str, JSON]) -> str:
        """Return what to do about a request that is in the way."""
        number = str(action.get("href", "")).rpartition("/")[2]
        if not number:
            return ""
        return printing.plain(
            f" Follow it: keyvault request show {number} --wait, or take it back: keyvault request "
            f"withdraw {number}"
        )

    def _note(self, what: str) -> None:
        self.done.changed.append(what)
        self._say(f"changed {what}")

    def _say(self, text: str) -> None:
        if not self.given.json:
            print(printing.plain(text), flush=True)


def _if_match(etag: str) -> dict[str, str]:
    return {"If-Match": etag} if etag else {}


def _end(client: Client, given: Namespace, done: _Done) -> int:
    """Tell what was asked and, when told to, wait until it is over."""
    rows = list(done.requests.values())
    if given.wait:
        until = time.monotonic() + given.timeout
        rows = [_awaited(client, row, until) for row in rows]
    if given.json:
        requests = [{name: row[name] for name in ("id", "label", "state", "page")} for row in rows]
        printing.as_json({"changed": done.changed, "requests": requests})
    elif rows:
        printing.table([_shown(client, row) for row in rows], _COLUMNS)
        if any(row["state"] in _OPEN for row in rows):
            print(f"Follow: keyvault request show {rows[0]['label']} --wait")
    return _code(given, rows)


def _code(given: Namespace, rows: Sequence[Mapping[str, JSON]]) -> int:
    """Return the exit code: without --wait to have asked is enough."""
    if not given.wait or all(row["state"] == "done" for row in rows):
        return Exit.DONE
    return Exit.TIME_OVER if any(row["state"] in _OPEN for row in rows) else Exit.REFUSED


def _awaited(client: Client, row: Mapping[str, JSON], until: float) -> Mapping[str, JSON]:
    """Return a request once nothing more happens to it, or once the time is over."""
    while row["state"] in _OPEN and (left := until - time.monotonic()) > 0:
        before = time.monotonic()
        found = _news(client, row, wait_s=max(1, min(WAIT_S, int(left))))
        if found["state"] == row["state"] and time.monotonic() - before < _QUICK_S:
            # Every place of those who wait is taken, so the answer came at once.
            time.sleep(min(_AGAIN_S, max(0.0, until - time.monotonic())))
        row = found
    return row


def _news(client: Client, row: Mapping[str, JSON], *, wait_s: int) -> dict[str, JSON]:
    """Return a request once it has changed, or after a while. Raises Away."""
    path, query = f"/requests/{row['id']}", {"wait": str(wait_s)}

    def flow() -> Flow[Answer]:
        return client.core.answer("GET", path, query=query, timeout_s=wait_s + ROUND_S)

    return planning.patiently(flow, client).json()


def _shown(client: Client, row: Mapping[str, JSON]) -> dict[str, JSON]:
    progress = row.get("progress") or {}
    have = f"{progress['have']} of {progress['need']}" if progress else "-"
    return {**row, "approvals": have, "page": f"{client.core.settings.url}{row['page']}"}
