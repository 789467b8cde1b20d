"""What a gateway is told by its environment; docs/settings.md lists the variables."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from keyvault.environment import BadSetting, integer, networks, secret, text
from keyvault.gateway.records import Mode

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a gateway process is told. Rates are answers a second.

    `listen` leads to PostgreSQL directly: a pooler that hands out a connection
    for each transaction would drop LISTEN.
    """

    database: str
    listen: str
    console: str
    address: str
    kek: str
    keys_dir: Path
    mode: Mode
    segments: Path
    stale_max_s: int
    proxies: tuple[Network, ...]
    agent_rate: int
    source_rate: int
    refusal_rate: int


def load() -> Settings:
    """Read the environment. Raises BadSetting with a sentence that says the mend."""
    keys_dir = Path(text("KEYVAULT_KEYS_DIR", str(Path.home() / ".config/keyvault/keys")))
    data_dir = Path(text("KEYVAULT_DATA_DIR", ".kv"))
    database = secret("DATABASE_URL")
    proxies = networks("KEYVAULT_TRUSTED_PROXIES", "")
    return Settings(
        database=database,
        listen=text("KEYVAULT_LISTEN_DATABASE_URL", "") or database,
        console=text("KEYVAULT_PUBLIC_URL", "http://localhost:8000").rstrip("/"),
        address=text("KEYVAULT_GATEWAY_URL", "http://localhost:8001").rstrip("/"),
        kek=text("KEYVAULT_KEK", f"file:{keys_dir / 'kek'}"),
        keys_dir=keys_dir,
        mode=_mode(text("KEYVAULT_GATEWAY_AUDIT", Mode.DURABLE)),
        segments=Path(text("KEYVAULT_GATEWAY_SEGMENT_DIR", str(data_dir / "segments"))),
        stale_max_s=integer("KEYVAULT_GATEWAY_STALE_MAX_S", 0, low=0, high=300),
        proxies=tuple(ipaddress.ip_network(word) for word in proxies),
        agent_rate=integer("KEYVAULT_GATEWAY_AGENT_RATE", 5000, low=1, high=1_000_000),
        source_rate=integer("KEYVAULT_GATEWAY_SOURCE_RATE", 50_000, low=1, high=1_000_000),
        refusal_rate=integer("KEYVAULT_GATEWAY_REFUSAL_RATE", 50, low=1, high=1_000_000),
    )


def _mode(word: str) -> Mode:
    try:
        return Mode(word)
    except ValueError:
        message = f"KEYVAULT_GATEWAY_AUDIT is {word!r}; it takes durable or process."
        raise BadSetting(message) from None
