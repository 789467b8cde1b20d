"""The one way a command ends badly: a sentence that says the mend, never a stack trace."""

from __future__ import annotations


class Stop(Exception):
    """The command cannot go on. The message is for the person at the terminal."""

    def __init__(self, sentence: str, *, code: int = 1) -> None:
        """Keep the sentence and the exit code: 1 for a failure, 2 for wrong usage."""
        super().__init__(sentence)
        self.code = code
