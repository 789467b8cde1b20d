"""`keyvault rotate NAME`: have a key move to a new version, and follow it to its end.

A job that deploys needs three ends apart: everybody has the new version, the
rotation went back by itself, or a person has to decide. Each has a code.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from keyvault.cli import connecting, printing
from keyvault.cli.codes import Exit
from keyvault.launcher.arguments import Arguments
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from argparse import Namespace

    from keyvault.client import Client
    from keyvault.client.calls import Flow

REASONS = ("manual", "ci", "incident")
LONGEST_S = 3600.0
# One call waits so long for news; what happens between two calls is seen after it.
WAIT_S = 10
_AGAIN_S, _QUICK_S, _ROUND_S = 2.0, 0.5, 10
_DECIDED = frozenset({"approved", "executing", "done"})
_UNDECIDED = frozenset({"draft", "pending", "changes_asked"})
_WORDS = {
    "reconciling": "creating",
    "created": "creating",
    "validated": "staging",
    "staged": "staging",
    "promoting": "rolling out",
    "brownout": "brown-out",
    "revoke_verified": "revoking",
    "completed": "done",
    "rolling_back": "rolling back",
    "rolled_back": "rolled back",
}


def run(argv: Sequence[str]) -> int:
    """Trigger a rotation and, when told to, wait for its end. Raises Stop."""
    given = _parse(argv)
    with connecting.connected() as caller:
        started = _trigger(caller.client, given)
        if not given.wait:
            return _tell(caller.client, started, given)
        say = _quiet if given.json else _line
        return _Follower(caller.client, given, say).follow(started)


def _parse(argv: Sequence[str]) -> Namespace:
    parser = Arguments(prog="keyvault rotate", description="Move a key to a new version.")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--reason", choices=REASONS, default="manual", help="what asks for it")
    parser.add_argument(
        "--deploy-id", default="", metavar="ID", help="the same one again joins its rotation"
    )
    parser.add_argument("--comment", default="", metavar="TEXT", help="why, for those who read it")
    parser.add_argument("--ticket", default="", help="where your policy asks for one")
    parser.add_argument("--wait", action="store_true", help="until it is over or a person must act")
    parser.add_argument(
        "--timeout", type=float, default=LONGEST_S, metavar="S", help="seconds to wait, 3600"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(argv)
    if not 0 < given.timeout < float("inf"):
        raise Stop("--timeout takes a number of seconds above 0.", code=Exit.USAGE)
    return given


def _trigger(client: Client, given: Namespace) -> dict[str, Any]:
    body = {"reason": given.reason}
    more = {"comment": given.comment, "deploy_id": given.deploy_id, "ticket": given.ticket}
    body |= {name: text for name, text in more.items() if text}
    path = f"/keys/{quote(given.name, safe='')}/rotations"
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    return client.do(client.core.api("POST", path, body=body, headers=headers))


def _tell(client: Client, started: dict[str, Any], given: Namespace) -> int:
    if given.json:
        printing.as_json(started)
        return Exit.DONE
    request, rotation = started["request"] or {}, started["rotation"] or {}
    page = rotation.get("page") or request.get("page")
    printing.facts(
        {
            "key": given.name,
            "request": request.get("label"),
            "state": rotation.get("state") or request.get("state") or "asked by somebody else",
            "rotation": rotation.get("id"),
            "page": f"{client.core.settings.url}{page}" if page else None,
        }
    )
    return Exit.DONE


@dataclass
class _Follower:
    """Follow one trigger. `said`: the last line, so that each change is told once."""

    client: Client
    given: Namespace
    say: Callable[[str], None]
    said: str = ""
    end: float = field(init=False)

    def __post_init__(self) -> None:
        self.end = time.monotonic() + self.given.timeout

    def follow(self, started: dict[str, Any]) -> int:
        """Wait for the end and return 0. Raises Stop for every other end."""
        rotation = started["rotation"] or self._begun(started["request"])
        while True:
            self._note(_progress(rotation))
            if rotation["ended_at"] or rotation["state"] == "held":
                break
            rotation = self._news(f"/rotations/{rotation['id']}", rotation)
        if self.given.json:
            printing.as_json(rotation)
        self._judge(rotation)
        return Exit.DONE

    def _begun(self, request: dict[str, Any] | None) -> dict[str, Any]:
        """Wait until a request has become a rotation. Raises Stop where it does not."""
        if request is None:
            raise Stop(
                "Another identity has asked this for the same deployment, and it waits for a "
                "decision. Follow it there.",
                code=Exit.REFUSED,
            )
        while request["state"] != "done":
            self._note(_waiting(request))
            if request["state"] not in _UNDECIDED | _DECIDED:
                why = printing.plain(request["end_sentence"]) or f"It is {request['state']}."
                raise Stop(f"{request['label']} rotates nothing. {why}", code=Exit.REFUSED)
            request = self._news(f"/requests/{request['id']}", request)
        rotation_id = request["outcome"]["facts"]["Rotation"]
        return self._asked(lambda: self._get(f"/rotations/{rotation_id}"))

    def _news(self, path: str, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an address says once it has changed, or after a while. Raises Stop."""
        wait_s = max(1, min(WAIT_S, int(self._left())))
        began = time.monotonic()
        found = self._asked(lambda: self._get(path, wait_s))
        if found == known and time.monotonic() - began < _QUICK_S:
            # Every place of those who wait is taken, so the answer came at once.
            self._pause(_AGAIN_S)
        return found

    def _get(self, path: str, wait_s: int = 0) -> Flow[dict[str, Any]]:
        query = {"wait": str(wait_s)} if wait_s else {}
        return self.client.core.api("GET", path, query=query, timeout_s=wait_s + _ROUND_S)

    def _asked(self, flow: Callable[[], Flow[dict[str, Any]]]) -> dict[str, Any]:
        """Run a flow, again while the server is away and there is time. Raises Stop."""
        from keyvault.client import Away  # noqa: PLC0415 - with it come sockets and TLS.

        while True:
            try:
                return self.client.do(flow())
            except Away as away:
                self._note(f"{away} Its rotations go on by themselves when it is back.")
                self._pause(away.retry_after_s or _AGAIN_S, is_away=True)

    def _pause(self, seconds: float, *, is_away: bool = False) -> None:
        if self._left(is_away=is_away) > 0:
            time.sleep(min(seconds, self._left(is_away=is_away)))

    def _left(self, *, is_away: bool = False) -> float:
        """Return the seconds left. Raises Stop when there are none."""
        left = self.end - time.monotonic()
        if left <= 0 and is_away:
            raise Stop("The time is over and keyvault is still away.", code=Exit.AWAY)
        if left <= 0:
            where = f" The last that was seen: {self.said}" if self.said else ""
            raise Stop(f"The time is over; the rotation goes on.{where}", code=Exit.TIME_OVER)
        return left

    def _note(self, text: str) -> None:
        if text != self.said:
            self.said = text
            self.say(text)

    def _judge(self, rotation: Mapping[str, Any]) -> None:
        """Raise Stop unless everybody has the new version."""
        why = printing.plain(rotation["sentence"])
        name, state = rotation["key"], rotation["state"]
        if state == "held":
            choices = ", ".join(rotation["choices"]).replace("_", " ")
            where = f"{self.client.core.settings.url}{printing.plain(rotation['page'])}"
            what = f" To choose: {choices}." if choices else ""
            raise Stop(
                f"The rotation of {name} is held until a person decides on {where} {why}{what}",
                code=Exit.HELD,
            )
        if state != "completed":
            old = rotation["old_version"]
            raise Stop(
                f"The rotation of {name} went back; version {old} is in use. {why}".rstrip(),
                code=Exit.ROLLED_BACK,
            )


def _progress(rotation: Mapping[str, Any]) -> str:
    count, new = rotation["progress"], rotation["new_version"]
    state = _WORDS.get(rotation["state"], rotation["state"])
    version = f" v{rotation['old_version']} -> v{new}" if new else ""
    return f"{rotation['key']}{version}: {state}, {count['done']} of {count['of']} dependents"


def _waiting(request: Mapping[str, Any]) -> str:
    if request["state"] in _DECIDED:
        return f"{request['label']}: approved"
    count = request.get("progress") or {}
    have = f", {count['have']} of {count['need']} approvals" if count else ""
    return f"{request['label']}: waits for a decision{have}"


def _line(text: str) -> None:
    print(printing.plain(text), flush=True)


def _quiet(_text: str) -> None:
    """Say nothing: a program gets the end as JSON."""
