"""Read existing keys from files: variables of a dotenv file, rows of a CSV table.

No error repeats what a line holds: the line may be a secret.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from keyvault.cli.codes import Exit
from keyvault.cli.found import Found, is_column, name_of
from keyvault.launcher.sentences import Stop

MOST_BYTES = 8_000_000
_NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'", re.DOTALL)
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def dotenv(path: Path) -> list[Found]:
    """Return every variable with a value. Raises Stop where a line cannot be read.

    References to other variables are kept as they stand.
    """
    return list(_variables(_text(path), str(path)))


def table(path: Path) -> list[Found]:
    """Return every row of a CSV table with a header. Raises Stop.

    The columns are those of a key, with `name` and `value` among them.
    """
    rows = csv.reader(io.StringIO(_text(path).removeprefix("\ufeff")), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(rows, [])]
        _require(header, str(path))
        return [
            _row(dict(zip(header, cells, strict=True)), f"{path}:{rows.line_num}")
            for cells in rows
            if any(cell.strip() for cell in cells)
        ]
    except (csv.Error, ValueError):
        where = f"{path}:{rows.line_num}"
        raise Stop(f"{where}: this row does not have the columns of the header.") from None


def _text(path: Path) -> str:
    with path.open("rb") as source:
        content = source.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise Stop(f"{path} has more than {MOST_BYTES:,} bytes.", code=Exit.USAGE)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Stop(f"{path} is not UTF-8.", code=Exit.USAGE) from None


def _variables(text: str, path: str) -> Iterator[Found]:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        line = text[at : end if end >= 0 else len(text)]
        if not line.strip() or line.lstrip().startswith("#"):
            at += len(line) + 1
            continue
        where = f"{path}:{text.count(chr(10), 0, at) + 1}"
        begin = at + len(line) - len(line.lstrip())
        named = _NAME.match(text, begin)
        if named is None:
            raise Stop(f"{where}: this line is no NAME=value.", code=Exit.USAGE)
        value, at = _value(text, named.end(), where)
        if value:
            yield Found(where, value, {"name": name_of(named[1]), "title": named[1]})


def _value(text: str, at: int, where: str) -> tuple[str, int]:
    """Return a value and where the next line begins."""
    for quotes in (_DOUBLE, _SINGLE):
        found = quotes.match(text, at)
        rest = _REST.match(text, found.end()) if found else None
        if found and rest:
            is_double = quotes is _DOUBLE
            return (_unescaped(found[1]) if is_double else found[1]), rest.end()
    end = text.find("\n", at)
    plain = text[at : end if end >= 0 else len(text)]
    if plain.startswith(("'", '"')):
        raise Stop(f"{where}: the quotes of this value do not end.", code=Exit.USAGE)
    value = re.split(r"[ \t]#", plain, maxsplit=1)[0].strip()
    return ("" if value.startswith("#") else value), at + len(plain) + 1


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text, flags=re.DOTALL)


def _require(header: list[str], path: str) -> None:
    for needed in ("name", "value"):
        if needed not in header:
            raise Stop(f"{path} has no column {needed!r}.", code=Exit.USAGE)
    if len(set(header)) != len(header):
        raise Stop(f"{path} has a column twice.", code=Exit.USAGE)
    unknown = [name for name in header if name != "value" and not is_column(name)]
    if unknown:
        raise Stop(f"{path} has a column {unknown[0]!r} that no key has.", code=Exit.USAGE)


def _row(cells: dict[str, str], where: str) -> Found:
    value = cells.pop("value")
    return Found(where, value, {name: text for name, text in cells.items() if text.strip()})
