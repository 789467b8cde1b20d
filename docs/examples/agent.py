"""An agent that calls a vendor with a key from keyvault, and follows the key when its version moves.

Under `keyvault run --key vendor-prod=VENDOR_KEY --on-change restart -- python agent.py`
the key is in the environment, and a new version comes with a restart. Started by itself
it reads the key through the client, which asks again by itself.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from collections.abc import Callable

PAUSE_S = 0.05


def key_reader() -> Callable[[], str]:
    """Return a function that gives the key as it is now."""
    given = os.environ.get("VENDOR_KEY")
    if given is not None:
        return lambda: given
    from keyvault.client import Client

    client = Client()
    return lambda: client.get("vendor-prod").reveal()


def call(url: str, key: str) -> int:
    """Call the vendor once and return its status. Raises urllib.error.HTTPError."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(answer.status)


def main() -> None:
    """Call until told to stop."""
    url, read = os.environ["VENDOR_URL"], key_reader()
    while True:
        print(call(url, read()), flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    sys.exit(main())
