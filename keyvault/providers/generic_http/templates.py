"""Texts with named gaps. A template can be filled and nothing else: there is no expression to run."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from keyvault.providers.base import JSON, Misconfigured

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_PART = re.compile(rf"(?P<text>[^{{}}]+)|(?P<brace>{{{{|}}}})|{{(?P<name>{NAME.pattern})}}")
_MOST_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Template:
    """A text whose gaps, such as `{tag}`, take the values of variables.

    `parts` holds pairs of plain text and the name of the variable after it.
    """

    parts: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: JSON, where: str, allowed: Collection[str]) -> Self:
        """Read a template that may use the variables `allowed`. Raises Misconfigured."""
        if not isinstance(text, str):
            raise Misconfigured(f"{where} must be a text.")
        parts, at = [], 0
        while at < len(text):
            found = _PART.match(text, at)
            if found is None:
                raise Misconfigured(
                    f"{where} has a brace that opens no variable. Write {{{{ or }}}} for a brace."
                )
            parts.append(_part(found, where, allowed))
            at = found.end()
        return cls(tuple(parts))

    @property
    def variables(self) -> frozenset[str]:
        """The names of its gaps."""
        return frozenset(name for _, name in self.parts if name)

    def fill(
        self, values: Mapping[str, str], *, quoted: Callable[[str], str] = lambda value: value
    ) -> str:
        """Return the text with each gap filled; `quoted` is applied to what fills it."""
        return "".join(text + (quoted(values[name]) if name else "") for text, name in self.parts)


@dataclass(frozen=True, slots=True)
class Body:
    """A JSON document whose texts are templates; the names of its members are plain."""

    document: JSON

    @classmethod
    def parse(cls, document: JSON, where: str, allowed: Collection[str]) -> Self:
        """Read a body that may use the variables `allowed`. Raises Misconfigured."""
        return cls(_parsed(document, where, allowed, _MOST_DEPTH))

    @property
    def variables(self) -> frozenset[str]:
        """The names of the gaps of all its texts."""
        return frozenset(name for part in _templates(self.document) for name in part.variables)

    def fill(self, values: Mapping[str, str]) -> JSON:
        """Return the document with its gaps filled. What fills one stays inside its text."""
        return _filled(self.document, values)


def _part(found: re.Match[str], where: str, allowed: Collection[str]) -> tuple[str, str]:
    name = found["name"] or ""
    if name and name not in allowed:
        known = ", ".join(f"{{{word}}}" for word in sorted(allowed)) or "none"
        raise Misconfigured(f"{where} may not use {{{name}}}. Here may stand: {known}.")
    # A doubled brace stands for one.
    return found["text"] or (found["brace"] or "")[:1], name


def _parsed(document: JSON, where: str, allowed: Collection[str], depth: int) -> JSON:
    if depth == 0:
        raise Misconfigured(f"{where} is nested more than {_MOST_DEPTH} levels deep.")
    if isinstance(document, str):
        return Template.parse(document, where, allowed)
    if isinstance(document, dict):
        return {
            name: _parsed(value, f"{where}.{name}", allowed, depth - 1)
            for name, value in document.items()
        }
    if isinstance(document, list):
        return [
            _parsed(value, f"{where}[{at}]", allowed, depth - 1)
            for at, value in enumerate(document)
        ]
    return document


def _templates(document: JSON) -> Iterator[Template]:
    if isinstance(document, Template):
        yield document
    elif isinstance(document, dict | list):
        for value in document.values() if isinstance(document, dict) else document:
            yield from _templates(value)


def _filled(document: JSON, values: Mapping[str, str]) -> JSON:
    if isinstance(document, Template):
        return document.fill(values)
    if isinstance(document, dict):
        return {name: _filled(value, values) for name, value in document.items()}
    if isinstance(document, list):
        return [_filled(value, values) for value in document]
    return document
