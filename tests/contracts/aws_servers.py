"""An AWS of our own: moto on a free loopback port, with users that have the documented rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from keyvault.crypto.secret import Secret
from tests.contracts.servers import await_port
from tests.servers import free_port

ACCOUNT, REGION = "123456789012", "eu-central-1"
# Those of docs/providers/aws-iam.md and docs/destinations/aws-secrets.md.
IAM_RIGHTS = (
    "iam:ListUsers",
    "iam:GetUser",
    "iam:ListAccessKeys",
    "iam:GetAccessKeyLastUsed",
    "iam:CreateAccessKey",
    "iam:UpdateAccessKey",
    "iam:DeleteAccessKey",
)
SECRET_RIGHTS = (
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:UpdateSecretVersionStage",
)
# Making the root user, its policy and its access key comes before anybody can sign.
_UNSIGNED_CALLS = "3"


@dataclass(frozen=True, slots=True)
class AwsTarget:
    """A running moto and the access key of its root user."""

    port: int
    key_id: str
    secret: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str, key_id: str = "", secret: str = "") -> Any:
        """Return AWS's own client of a service, as root or as somebody else."""
        return client(self.url, service, key_id or self.key_id, secret or self.secret)

    def user(self, name: str, path: str, rights: Sequence[str]) -> dict[str, Secret]:
        """Make a user with these rights and return its access key as a Connection keeps it."""
        iam = self.client("iam")
        iam.create_user(UserName=name, Path=path)
        self.allow(name, rights)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return {
            "access_key_id": Secret.of(made["AccessKeyId"]),
            "secret_access_key": Secret.of(made["SecretAccessKey"]),
        }

    def allow(self, name: str, rights: Sequence[str]) -> None:
        """Give a user these rights and no others. Moto knows no resource but `*`."""
        allowed = {"Effect": "Allow", "Action": list(rights), "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        self.client("iam").put_user_policy(
            UserName=name, PolicyName="rights", PolicyDocument=document
        )


@cache
def client(url: str, service: str, key_id: str, secret: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


@contextmanager
def moto(directory: Path) -> Iterator[AwsTarget]:
    """Run a moto that checks signatures and policies for the length of the block."""
    port = free_port()
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": _UNSIGNED_CALLS}
    with (directory / "moto.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.contracts.moto_server", str(port)],
            env={**environment, "MOTO_PORT": str(port)},
            stdout=output,
            stderr=output,
        )
    try:
        await_port(port)
        iam = client(f"http://127.0.0.1:{port}", "iam", "testing", "testing")
        iam.create_user(UserName="root-of-tests")
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        iam.put_user_policy(
            UserName="root-of-tests",
            PolicyName="all",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everything]}),
        )
        made = iam.create_access_key(UserName="root-of-tests")["AccessKey"]
        yield AwsTarget(port, made["AccessKeyId"], made["SecretAccessKey"])
    finally:
        process.terminate()
        process.wait(10)
