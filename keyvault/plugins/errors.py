"""How one call of a plug-in can fail; each kind asks for another reaction."""

from __future__ import annotations

from typing import ClassVar


class ProviderError(Exception):
    """One failed call. `sentence` is for people and holds no secret; `code` is stable."""

    code: ClassVar[str] = "error"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Transient(ProviderError):
    """Certainly not applied; the same call may succeed later. `retry_after_s` is a hint."""

    code = "transient"

    def __init__(self, sentence: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class Ambiguous(ProviderError):
    """Maybe applied: reconcile by the recovery class before anything else."""

    code = "ambiguous"


class Denied(ProviderError):
    """The admin credential is refused or lacks a right; a person must mend it."""

    code = "denied"


class Conflict(ProviderError):
    """A quota is reached, a slot is busy, or somebody else changed the thing."""

    code = "conflict"


class NotFound(ProviderError):
    """The thing that the call needs does not exist there."""

    code = "not_found"


class Unsupported(ProviderError):
    """No program can do that here; a person may be able to."""

    code = "unsupported"


class Misconfigured(ProviderError):
    """The Connection's or the key's settings cannot work; a person must mend them."""

    code = "misconfigured"
