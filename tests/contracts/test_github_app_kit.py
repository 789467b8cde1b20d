"""A library that many use against GitHub drives our fake of it, so that its shapes are right."""

from __future__ import annotations

import github
import pytest

from tests.contracts.vendors.github_server import GitHubServer
from tests.contracts.vendors.server import serving


def test_pygithub_makes_and_uses_a_token():
    with serving(GitHubServer()) as server:
        installation = server.add_installation()
        app = github.Auth.AppAuth(server.app, server.pem)
        kit = github.GithubIntegration(auth=app, base_url=server.url, retry=None)
        made = kit.get_access_token(installation.number, permissions={"contents": "read"})
        assert made.permissions["contents"] == "read"
        assert made.expires_at.tzinfo is not None
        assert kit.get_app_installation(installation.number).id == installation.number
        holder = github.Github(auth=github.Auth.Token(made.token), base_url=server.url, retry=None)
        status, _, _ = holder.requester.requestJson("GET", "/installation/repositories?per_page=1")
        assert status == 200
        status, _, _ = holder.requester.requestJson("DELETE", "/installation/token")
        assert status == 204
        with pytest.raises(github.BadCredentialsException):
            holder.requester.requestJsonAndCheck("GET", "/installation/repositories?per_page=1")
        with pytest.raises(github.GithubException, match="422"):
            kit.get_access_token(installation.number, permissions={"actions": "read"})
