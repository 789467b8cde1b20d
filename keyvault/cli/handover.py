"""Hand over to a Django process in the environment of the running installation."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from keyvault.launcher import installation
from keyvault.launcher.sentences import Stop

DATA = "--data"


def environment(data: str | None) -> dict[str, str]:
    """Return the environment of the chosen installation.

    With DATABASE_URL set, this process's own: so it is in production, where
    somebody else supervises. Raises Stop when nothing was ever started.
    """
    if os.environ.get("DATABASE_URL"):
        return {"DJANGO_SETTINGS_MODULE": "keyvault.settings", **os.environ}
    return {**os.environ, **installation.environment(installation.chosen_dir(data))}


def split_data(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Take `--data DIR` out of the arguments; the rest belongs to the command. Raises Stop."""
    rest = list(argv)
    if DATA not in rest:
        return None, rest
    at = rest.index(DATA)
    if at + 1 == len(rest):
        raise Stop("--data takes a directory.", code=2)
    return rest[at + 1], rest[:at] + rest[at + 2 :]


def to_django(arguments: Sequence[str], *, data: str | None = None) -> int:
    """Become the Django command; never returns. Raises Stop."""
    env = environment(data)
    sys.stdout.flush()
    argv = [sys.executable, "-P", "-m", "django", *arguments]
    os.execve(sys.executable, argv, env)  # noqa: S606 - no shell is what we want
