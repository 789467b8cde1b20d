"""Every reason for a refusal stands in docs/authentication.md, and no other does."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def _raised(name: str, *files: str) -> set[str]:
    pattern = re.compile(rf'\b{name}\(\s*f?"([^"]+)"')
    texts = [(ROOT / "keyvault" / file).read_text() for file in files]
    return {reason for text in texts for reason in pattern.findall(text)}


def test_the_page_lists_what_the_code_says():
    files = [f"agents/{name}.py" for name in ("proofs", "federation", "issuers", "issuing")]
    own = _raised("Refused", *files) | set(
        re.findall(r'"(issuer: [a-z ]+)"', (ROOT / "keyvault/agents/issuers.py").read_text())
    )
    of_tokens = _raised("BadJwt", "crypto/jwt.py")
    wrapped = {reason for reason in own if "{" in reason}
    said = (own - wrapped) | {
        reason.replace("{error.reason}", each) for reason in wrapped for each in of_tokens
    }

    table = (ROOT / "docs/authentication.md").read_text().partition("## Refusals")[2]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    documented = {reason for row in rows for reason in re.findall(r"`([^`]+)`", row)}

    assert wrapped
    assert of_tokens
    assert documented == said
