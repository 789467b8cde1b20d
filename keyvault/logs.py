"""One line per log record: escaped, with the correlation id, never a secret."""

from __future__ import annotations

import logging

from keyvault.audit import context

REFUSALS = "django.security."


class Refusals(logging.Filter):
    """Keep the kind of a refused request and drop its text: that is what a stranger sent.

    Django quotes a strange Host header, and a traceback would quote it again.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, those of refused requests without text and traceback."""
        if record.name.startswith(REFUSALS):
            record.msg, record.args = "refused: %s", (record.name.removeprefix(REFUSALS),)
            record.exc_info = record.exc_text = None
        return True


class Formatter(logging.Formatter):
    """Write `time level logger [correlation id] message`, control characters escaped.

    Escaping keeps hostile text from forging a second line (CWE-117).
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one record as one line; a traceback follows with its newlines escaped."""
        record.message = record.getMessage()
        text = (
            f"{self.formatTime(record)} {record.levelname.lower()} {record.name} "
            f"[{context.current().correlation_id or '-'}] {record.message}"
        )
        if record.exc_info:
            text += " | " + self.formatException(record.exc_info)
        return text.encode("unicode_escape").decode("ascii")
