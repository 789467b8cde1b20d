"""Benches that put the plug-ins for AWS before moto, with faults on demand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.destinations.aws_secrets import AwsSecrets
from keyvault.destinations.aws_secrets.secret import NOTHING
from keyvault.plugins.context import Call, call
from keyvault.plugins.faults import Fault, FaultProxy
from keyvault.providers.aws_iam import AwsIam
from keyvault.providers.base import Issued
from tests.contracts.aws_servers import ACCOUNT, IAM_RIGHTS, REGION, SECRET_RIGHTS, AwsTarget
from tests.servers import free_port

_HEAD = b"HTTP/1.1 %d Refused\r\nConnection: close\r\nContent-Length: %d\r\n%b\r\n"


def answer(body: bytes, *, status: int = 400, headers: bytes = b"") -> bytes:
    """Return a whole answer over HTTP; each line of `headers` ends with CRLF."""
    return _HEAD % (status, len(body), headers) + body


@dataclass
class AwsBench:
    """A plug-in behind a fault proxy. `change` is a pattern that the body of a change contains."""

    target: AwsTarget
    proxy: FaultProxy
    config: Mapping[str, Any]
    options: Mapping[str, Any]
    admin: Mapping[str, Secret]
    admin_name: str
    change: bytes = b""
    closed_port: int = field(default=0)

    def call(self, *, timeout_s: float = 10.0) -> Call:
        return self.call_as(self.admin, timeout_s=timeout_s)

    def call_as(self, admin: Mapping[str, Secret], *, timeout_s: float = 10.0) -> Call:
        port = self.closed_port or self.proxy.port
        guard = outbound.Guard((outbound.Allowance.parse(f"http://127.0.0.1:{port}"),))
        return call(
            guard,
            timeout_s=timeout_s,
            config={"endpoint": f"http://127.0.0.1:{port}", **self.config},
            options=self.options,
            admin=admin,
        )

    def lose_request(self):
        return self.proxy.failing(Fault.LOSE_REQUEST, self.change)

    def lose_answer(self):
        return self.proxy.failing(Fault.LOSE_ANSWER, self.change)

    def hang(self):
        return self.proxy.failing(Fault.HANG)

    @contextmanager
    def down(self) -> Iterator[None]:
        self.closed_port = free_port()
        try:
            yield
        finally:
            self.closed_port = 0

    def hostile(self, words: Sequence[bytes]):
        return self.proxy.failing(Fault.REPLY, self.change, answer(self.refusal(b" ".join(words))))

    def refusal(self, text: bytes) -> bytes:
        raise NotImplementedError

    def struck(self) -> int:
        return self.proxy.hits

    def admin_secrets(self) -> list[bytes]:
        return [secret.reveal() for secret in self.admin.values()]


@dataclass
class IamBench(AwsBench):
    """A fresh IAM user below a path of its own, and a fresh admin with the documented rights."""

    provider: AwsIam = field(default_factory=AwsIam)

    @classmethod
    def at(cls, target: AwsTarget, proxy: FaultProxy) -> IamBench:
        word = uuid4().hex[:12]
        target.client("iam").create_user(UserName=f"app-{word}", Path=f"/t-{word}/")
        return cls(
            target,
            proxy,
            config={"account": ACCOUNT, "region": REGION, "path": f"/t-{word}/"},
            options={"user": f"app-{word}"},
            admin=target.user(f"admin-{word}", "/admins/", IAM_RIGHTS),
            admin_name=f"admin-{word}",
            change=rb"Action=(?:Create|Delete|Update)AccessKey",
        )

    def refusal(self, text: bytes) -> bytes:
        error = b"<Error><Type>Sender</Type><Code>%b</Code><Message>%b</Message></Error>"
        return b"<ErrorResponse>" + error % (text, text) + b"</ErrorResponse>"

    def session(self, issued: Issued):
        raise NotImplementedError("AWS keeps no sessions of access keys")


@dataclass
class SecretBench(AwsBench):
    """A fresh secret without a value, and a fresh user with the documented rights."""

    destination: AwsSecrets = field(default_factory=AwsSecrets)

    @classmethod
    def at(cls, target: AwsTarget, proxy: FaultProxy) -> SecretBench:
        word = uuid4().hex[:12]
        target.client("secretsmanager").create_secret(Name=f"orders/{word}")
        return cls(
            target,
            proxy,
            config={"region": REGION},
            options={"secret": f"orders/{word}", "parts": "value=API_KEY username=DB_USER"},
            admin=target.user(f"writer-{word}", "/admins/", SECRET_RIGHTS),
            admin_name=f"writer-{word}",
            change=rb'"SecretString"|"MoveToVersionId"|"RemoveFromVersionId"',
        )

    @property
    def consumer(self) -> Any:
        """AWS's own client, which a consumer would read with."""
        return self.target.client("secretsmanager")

    @property
    def name(self) -> str:
        return str(self.options["secret"])

    def consumed(self) -> bytes | None:
        if not self.stages():
            return None
        found = self.consumer.get_secret_value(SecretId=self.name, VersionStage="AWSCURRENT")
        value = json.loads(found["SecretString"]).get("API_KEY")
        return None if value is None else str(value).encode()

    def stages(self) -> dict[str, list[str]]:
        """Return the labels of each version, as AWS's own client tells them."""
        found = self.consumer.describe_secret(SecretId=self.name).get("VersionIdsToStages", {})
        return {version: sorted(labels) for version, labels in found.items() if labels}

    def state(self) -> object:
        read = self.consumer.get_secret_value
        return {
            version: (labels, read(SecretId=self.name, VersionId=version)["SecretString"])
            for version, labels in self.stages().items()
        }

    def overwrite(self) -> None:
        """Put a value in two steps: moto's own single one would leave two versions live."""
        current = next((one for one, at in self.stages().items() if "AWSCURRENT" in at), NOTHING)
        put = self.consumer.put_secret_value
        if not self.stages():
            put(SecretId=self.name, SecretString='{"API_KEY": "typed by a person"}')
            return
        made = put(
            SecretId=self.name,
            SecretString='{"API_KEY": "typed by a person"}',
            VersionStages=["typed"],
        )
        self.consumer.update_secret_version_stage(
            SecretId=self.name,
            VersionStage="AWSCURRENT",
            MoveToVersionId=made["VersionId"],
            RemoveFromVersionId=current,
        )

    def settle(self) -> None:
        """Nothing waits: a consumer reads from AWS itself."""

    def refusal(self, text: bytes) -> bytes:
        return json.dumps({"__type": f"x#{text.decode()}", "message": text.decode()}).encode()
