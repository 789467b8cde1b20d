import json
from datetime import UTC, datetime, timedelta

import pytest

from keyvault.web import csp

NOW = datetime(2026, 11, 24, 14, 22, tzinfo=UTC)


def _body(**report):
    return json.dumps({"csp-report": report}).encode()


@pytest.mark.parametrize(
    ("blocked", "kept"),
    [
        ("https://evil.example/path?token=canary", "https://evil.example"),
        ("inline", "inline"),
        ("data:text/html,canary", "data"),
        ("http://[broken", "unreadable"),
        ("", ""),
    ],
)
def test_only_the_host_of_what_was_refused_is_kept(blocked, kept):
    report = csp.parse(_body(**{"effective-directive": "img-src", "blocked-uri": blocked}), at=NOW)

    assert report.blocked == kept


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"csp-report": []}',
        b'{"csp-report": {"blocked-uri": "x"}}',
        _body(**{"effective-directive": "canary-src", "blocked-uri": "x"}),
        b"[" * 5000,
    ],
)
def test_what_is_no_report_is_dropped(body):
    assert csp.parse(body, at=NOW) is None


def test_a_minute_takes_ten_reports_and_no_more():
    reports = csp.Reports()
    report = csp.Report(NOW, "img-src", "inline")

    assert [reports.take(report) for _ in range(12)] == [True] * 10 + [False] * 2
    assert reports.take(csp.Report(NOW + timedelta(minutes=1), "img-src", "inline"))


def test_memory_is_short_and_newest_first():
    reports = csp.Reports()
    for minute in range(40):
        reports.take(csp.Report(NOW + timedelta(minutes=minute), "img-src", str(minute)))

    assert [report.blocked for report in reports.latest()][:2] == ["39", "38"]
    assert len(reports.latest()) == csp.KEPT


@pytest.mark.django_db
def test_anybody_may_report_and_learns_nothing(client, cast, monkeypatch):
    monkeypatch.setattr(csp, "reports", csp.Reports())
    for body in (_body(**{"effective-directive": "img-src", "blocked-uri": "inline"}), b"{"):
        response = client.post("/csp-report/", body, content_type="application/csp-report")
        assert (response.status_code, response.content) == (204, b"")

    assert len(csp.reports.latest()) == 1


@pytest.mark.django_db
def test_a_large_body_is_not_read(client, cast, monkeypatch):
    monkeypatch.setattr(csp, "reports", csp.Reports())
    body = _body(**{"effective-directive": "img-src", "blocked-uri": "x" * 9000})

    assert client.post("/csp-report/", body, content_type="application/json").status_code == 204
    assert csp.reports.latest() == []
