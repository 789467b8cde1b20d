"""Argument parsing that refuses in one sentence."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import NoReturn

from keyvault.launcher.sentences import Stop


class Arguments(ArgumentParser):
    """A parser whose errors are sentences, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise Stop with the sentence and the way to the help."""
        raise Stop(f"{message}. See: {self.prog} --help", code=2)
