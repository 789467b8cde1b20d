"""Run moto as a server that checks what AWS checks, for the length of the tests.

By itself moto checks signatures and the actions of policies once it is told to. Two
things are added: an inactive access key is refused as AWS refuses it, and requests
are applied one after the other, because moto's own steps are not atomic.

    python -m tests.contracts.moto_server PORT
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.iam import access_control
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple


class ActiveKey(access_control.IAMUserAccessKey):
    """Moto's access key of a signer, and none where it is set to Inactive."""

    def __init__(self, account_id: str, partition: str, **more: Any) -> None:
        super().__init__(account_id=account_id, partition=partition, **more)
        found = self.backend.access_keys[self._access_key_id]
        if found.status != "Active":
            raise access_control.CreateAccessKeyFailure(reason="InvalidId")


def in_turn(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Return the application so that it takes one request at a time."""
    turn = threading.Lock()

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with turn:
            return app(environ, start)

    return answer


def main(port: int) -> None:
    access_control.IAMUserAccessKey = ActiveKey
    run_simple(
        "127.0.0.1",
        port,
        in_turn(DomainDispatcherApplication(create_backend_app)),
        threaded=True,
        request_handler=MotoRequestHandler,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
