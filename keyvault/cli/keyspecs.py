"""`NAME[.FIELD][=ENVVAR]`: which key goes into which environment variable. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyvault.cli.codes import Exit
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from keyvault.client import Value

_SPEC = re.compile(
    r"(?P<name>[a-z][a-z0-9-]*)(?:\.(?P<field>\w+))?(?:=(?P<variable>[A-Za-z_][A-Za-z0-9_]*))?"
)
# What proves who we are is ours: the child gets the values, and no way to read further ones.
IDENTITY = frozenset(
    {
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "KEYVAULT_CLIENT_SECRET",
        "KEYVAULT_CLIENT_SECRET_FILE",
        "KEYVAULT_ID_TOKEN",
        "KEYVAULT_ID_TOKEN_FILE",
        "KEYVAULT_PRIVATE_KEY_FILE",
        "KEYVAULT_TOKEN",
        "KEYVAULT_TOKEN_FILE",
    }
)


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One `--key`. Without a field, a key with several goes into one variable for each."""

    name: str
    field: str | None
    variable: str

    @classmethod
    def parse(cls, text: str) -> KeySpec:
        """Read one `--key`; the variable is the name in capitals unless given. Raises Stop."""
        found = _SPEC.fullmatch(text)
        if found is None:
            raise Stop(f"--key takes NAME[.FIELD][=ENVVAR], not {text!r}.", code=Exit.USAGE)
        name, field = found["name"], found["field"]
        words = f"{name}_{field}" if field else name
        return cls(name, field, found["variable"] or words.replace("-", "_").upper())

    def variables(self, value: Value) -> dict[str, str]:
        """Return what goes into the environment. Raises values.NoSuchField."""
        if self.field is not None or len(value.fields) == 1:
            return {self.variable: value.reveal(self.field)}
        return {f"{self.variable}_{field.upper()}": value.reveal(field) for field in value.fields}


def environment(
    outer: Mapping[str, str],
    specs: Iterable[KeySpec],
    values: Mapping[str, Value],
    *,
    keep_identity: bool,
) -> dict[str, str]:
    """Return the environment of the child. Raises Stop, values.NoSuchField."""
    env = {k: v for k, v in outer.items() if keep_identity or k not in IDENTITY}
    for spec in specs:
        env.update(spec.variables(values[spec.name]))
        for name, text in spec.variables(values[spec.name]).items():
            if "\0" in text:
                raise Stop(
                    f"{spec.name} holds a zero byte, which no environment variable can ({name}). "
                    "Write it to a file: keyvault template",
                    code=Exit.NOT_STARTED,
                )
    return env
