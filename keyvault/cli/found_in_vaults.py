"""Read existing keys from another vault: OpenBao or Vault (KV 2), AWS Secrets Manager.

Only reads are sent, with the identity that the environment holds for that vault,
over the same guarded way out as every Connection.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from keyvault import outbound
from keyvault.cli.codes import Exit
from keyvault.cli.found import Found, name_of
from keyvault.crypto.secret import Secret
from keyvault.launcher.sentences import Stop
from keyvault.plugins import aws, context
from keyvault.plugins.aws.partitions import partition_of
from keyvault.plugins.errors import NotFound, ProviderError
from keyvault.plugins.json_api import JsonApi, header_text, segment

JSON = Any
LONGEST_S = 600.0
MOST = 5_000
_PAGE = 100
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"https": 443, "http": 80}


def openbao(address: str, path: str) -> list[Found]:
    """Return every text in every secret at or below a path, whose first part is the mount.

    Raises Stop. The token stands in BAO_TOKEN or VAULT_TOKEN.
    """
    token = _needed("BAO_TOKEN", "VAULT_TOKEN")
    space = os.environ.get("BAO_NAMESPACE") or os.environ.get("VAULT_NAMESPACE") or ""
    mount, _, below = path.strip("/").partition("/")
    if not mount:
        raise Stop("name the path by its mount first, such as secret/apps.", code=Exit.USAGE)
    with _said(address):
        headers = {"X-Vault-Token": header_text(Secret.of(token), "token")}
        if space:
            headers["X-Vault-Namespace"] = header_text(Secret.of(space), "namespace")
        api = JsonApi(_way_to(address), address.rstrip("/"), headers)
        return [
            one
            for secret in _secrets(api, mount, below)
            for one in _texts(_data(api, mount, secret), f"{mount}/{secret}", secret)
        ]


def aws_secrets(region: str, prefix: str) -> list[Found]:
    """Return every text in every secret of a region whose name begins with a prefix.

    Raises Stop. The access key stands where every program of AWS looks for it first.
    """
    named = {
        "access_key_id": Secret.of(_needed("AWS_ACCESS_KEY_ID")),
        "secret_access_key": Secret.of(_needed("AWS_SECRET_ACCESS_KEY")),
    }
    token = os.environ.get("AWS_SESSION_TOKEN", "")
    with _said(f"AWS Secrets Manager in {region}"):
        key = aws.AccessKey.of(named)
        if token:
            key = replace(key, token=header_text(Secret.of(token), "session token"))
        part = partition_of(region)
        own = os.environ.get("AWS_ENDPOINT_URL_SECRETS_MANAGER", "")
        url = own or f"https://secretsmanager.{region}.{part.domain}"
        service = aws.Service(_way_to(url), key, "secretsmanager", region, url)
        return [
            one
            for name in _names(service, prefix)
            for one in _texts(_content(service, name), name, name)
        ]


def _secrets(api: JsonApi, mount: str, below: str) -> Iterator[str]:
    """Yield the path of every secret at or below a path, without the mount."""
    waiting, seen = [below], 0
    if below:
        yield below
    while waiting:
        path = waiting.pop()
        try:
            listed = api.read(f"/v1/{segment(mount)}/metadata/{_quoted(path)}", {"list": "true"})
        except NotFound:
            continue
        for name in listed.get("data", {}).get("keys", []):
            inner = f"{path}/{name}".strip("/")
            if name.endswith("/"):
                waiting.append(inner)
            else:
                seen += 1
                _bound(seen)
                yield inner


def _data(api: JsonApi, mount: str, path: str) -> Mapping[str, JSON]:
    """Return what a secret holds; nothing where there is none, or no version that lives."""
    try:
        answer = api.read(f"/v1/{segment(mount)}/data/{_quoted(path)}")
    except NotFound:
        return {}
    held = answer.get("data", {}).get("data")
    return held if isinstance(held, dict) else {}


def _names(service: aws.Service, prefix: str) -> Iterator[str]:
    more: dict[str, JSON] = {}
    seen = 0
    while True:
        asked = {"MaxResults": _PAGE, **more}
        if prefix:
            asked["Filters"] = [{"Key": "name", "Values": [prefix]}]
        answer = service.read_json("secretsmanager.ListSecrets", asked)
        for row in answer.get("SecretList", []):
            # The filter of AWS is one for words; what was asked for is a prefix.
            if str(row.get("Name", "")).startswith(prefix):
                seen += 1
                _bound(seen)
                yield str(row["Name"])
        if not answer.get("NextToken"):
            return
        more = {"NextToken": answer["NextToken"]}


def _content(service: aws.Service, name: str) -> Mapping[str, JSON]:
    """Return the fields of a secret; one that is plain text has a single field without a name."""
    try:
        answer = service.read_json("secretsmanager.GetSecretValue", {"SecretId": name})
    except NotFound:
        return {}
    text = answer.get("SecretString")
    if not isinstance(text, str):
        return {}
    try:
        held = json.loads(text)
    except ValueError:
        held = None
    return held if isinstance(held, dict) else {"": text}


def _texts(data: Mapping[str, JSON], where: str, path: str) -> Iterator[Found]:
    """Yield the texts of a secret: named by its path, and by their field where there are more."""
    texts = {name: text for name, text in data.items() if isinstance(text, str) and text}
    for name, text in texts.items():
        words = path if len(texts) == 1 else f"{path} {name}"
        said = {"name": name_of(words), "title": words[:120]}
        yield Found(f"{where}#{name}" if name else where, text, said)


def _way_to(url: str) -> context.Call:
    """Return the way out to one address, in clear only on this machine. Raises Stop."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in _PORTS or not host or (parts.scheme == "http" and host not in _LOOPBACK):
        raise Stop("the address begins with https://, or with http:// on this machine.", code=2)
    port = parts.port or _PORTS[parts.scheme]
    plain = "http://" if parts.scheme == "http" else ""
    inside = f"[{host}]" if ":" in host else host
    allowed = outbound.Allowance.parse(f"{plain}{inside}:{port}")
    guard = outbound.Guard(allowed=(allowed,))
    return context.call(guard, timeout_s=LONGEST_S, config={}, options={}, admin={})


@contextmanager
def _said(where: str) -> Iterator[None]:
    """Turn what the way out and the other side refuse into a sentence. Raises Stop."""
    try:
        yield
    except ProviderError as error:
        raise Stop(f"{where}: {error.sentence}", code=Exit.REFUSED) from None
    except ValueError:
        raise Stop(f"{where} is no address that can be read.", code=Exit.USAGE) from None


def _needed(*names: str) -> str:
    for name in names:
        if found := os.environ.get(name):
            return found
    raise Stop(f"{' or '.join(names)} is not set.", code=Exit.USAGE)


def _quoted(path: str) -> str:
    return "/".join(map(segment, path.split("/")))


def _bound(seen: int) -> None:
    if seen > MOST:
        raise Stop(f"more than {MOST:,} secrets: name a narrower path.", code=Exit.USAGE)
