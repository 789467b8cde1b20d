"""How requests to AWS are signed, and what an error of AWS may say. Without a server."""

from __future__ import annotations

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from keyvault.plugins import aws
from keyvault.plugins.aws.failures import failure
from keyvault.plugins.aws.signing import Scope, signed
from keyvault.plugins.errors import Conflict, Denied, Misconfigured, NotFound
from keyvault.plugins.values import Reply

KEY = aws.AccessKey("AKIDEXAMPLE00000", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
# Forty letters and digits, as moto makes them: a secret that looks most like a word.
SECRETS = [KEY.secret, "rmyapfkqsEgnRFegVF0VJJf1geYcSXmPVKaeLbxQ", "AKIAIOSFODNN7EXAMPLE"]


@pytest.mark.parametrize(
    "url", ["https://iam.example/", "https://IAM.example:443/", "https://x:8443/"]
)
def test_the_host_that_is_signed_is_the_host_that_is_sent(url):
    found = signed(KEY, Scope("iam", "us-east-1"), url, headers={"content-type": "x"}, body=b"a=b")
    assert found["host"] == url.split("/")[2].lower()
    assert "SignedHeaders=content-type;host;x-amz-date" in found["Authorization"]
    headers = {name: found[name] for name in ("host", "content-type", "X-Amz-Date")}
    again = AWSRequest(method="POST", url=url, headers=headers, data=b"a=b")
    again.context["timestamp"] = found["X-Amz-Date"]
    auth = SigV4Auth(Credentials(KEY.key_id, KEY.secret), "iam", "us-east-1")
    text = auth.string_to_sign(again, auth.canonical_request(again))
    assert found["Authorization"].endswith(f"Signature={auth.signature(text, again)}")


def test_nothing_that_is_sent_or_printed_holds_the_secret():
    found = signed(KEY, Scope("iam", "us-east-1"), "https://x/", headers={}, body=b"")
    assert KEY.secret not in str(found) + repr(KEY)


@pytest.mark.parametrize("code", SECRETS)
def test_a_code_that_is_a_secret_is_not_passed_on(code):
    error = failure(Reply(400, {}, b""), code, "iam:GetUser", is_change=False)
    assert code not in str(error)
    assert str(error).startswith("AWS answered 400")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDenied", 403, Denied),
        ("AccessDeniedException", 400, Denied),
        ("", 403, Denied),
        ("InvalidClientTokenId", 403, aws.InvalidToken),
        ("UnrecognizedClientException", 400, aws.InvalidToken),
        ("ExpiredToken", 403, aws.NotAccepted),
        ("NoSuchEntity", 404, NotFound),
        ("ResourceNotFoundException", 400, NotFound),
        ("LimitExceeded", 409, Conflict),
        ("InvalidParameterException", 400, aws.InvalidParameter),
        ("ValidationError", 400, Misconfigured),
    ],
)
def test_each_code_has_its_meaning(code, status, kind):
    error = failure(Reply(status, {}, b""), code, "iam:GetUser", is_change=True)
    assert type(error) is kind
    assert (code or str(status)) in str(error)


@pytest.mark.parametrize(
    ("region", "name", "host"),
    [
        ("eu-central-1", "aws", "iam.amazonaws.com"),
        ("cn-northwest-1", "aws-cn", "iam.cn-north-1.amazonaws.com.cn"),
        ("us-gov-east-1", "aws-us-gov", "iam.us-gov.amazonaws.com"),
    ],
)
def test_a_region_tells_its_partition(region, name, host):
    found = aws.partition_of(region)
    assert (found.name, found.iam_host) == (name, host)


@pytest.mark.parametrize(
    "region", ["", "eu", "eu-central-1.evil.example", "EU-CENTRAL-1", "eu-central-1\n"]
)
def test_what_is_no_region_never_becomes_a_host(region):
    with pytest.raises(Misconfigured):
        aws.partition_of(region)
