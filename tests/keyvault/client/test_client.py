"""Both clients against a real HTTP server: reading, renewing, outages, refusals, following."""

from __future__ import annotations

import json
import pickle
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from keyvault.client import Away, BadIdentity, BadSettings, Client, NotGranted, Refused
from keyvault.client.settings import Settings, from_environment
from keyvault.client.values import NoSuchField
from tests.keyvault.client import house as houses
from tests.keyvault.client.conftest import Clock
from tests.servers import free_port

READ = ("GET", "/v1/keys/openai-prod")
TOKEN = ("POST", "/token")


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_value_is_read_and_never_shows_itself(connect):
    value = connect().get("openai-prod")

    assert value.reveal() == "sk-first"
    assert (value.key, value.version, value.etag) == ("openai-prod", 1, "openai-prod-1")
    for shown in (repr(value), str(value), f"{value}", f"{value.secrets}", repr([value])):
        assert "sk-first" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(value)


def test_fields_are_revealed_by_name(house, connect):
    house.put("orders-db", {"username": "reader", "password": "p4ss"})

    value = connect().get("orders-db")

    assert value.fields == ("username", "password")
    assert value.reveal("password") == "p4ss"
    with pytest.raises(NoSuchField, match="username, password"):
        value.reveal()
    with pytest.raises(NoSuchField, match="no field token"):
        value.reveal("token")


def test_another_version_is_read_each_time_and_never_held(house, connect):
    client = connect()
    assert client.get("openai-prod").reveal() == "sk-first"
    house.pending["openai-prod"] = house.keys["openai-prod"] | {"version": 2, "value": "sk-next"}

    assert client.read("openai-prod", "pending").reveal() == "sk-next"
    assert client.read("openai-prod", "1").reveal() == "sk-first"
    assert client.get("openai-prod").version == 1
    with pytest.raises(NotGranted):
        client.read("openai-prod", "7")
    del house.pending["openai-prod"]
    with pytest.raises(NotGranted):
        client.read("openai-prod", "pending")
    assert client.get("openai-prod").version == 1, "what is held is not lost by it"


def test_a_young_value_is_served_without_asking(house, connect):
    client = connect()

    assert [client.get("openai-prod").version for _ in range(20)] == [1] * 20

    assert house.count(*READ) == 1


def test_an_old_value_is_asked_for_by_its_etag_and_kept_when_nothing_moved(house, connect):
    clock = Clock(time.time())
    client = connect(clock=clock)
    first = client.get("openai-prod")

    clock.at += 31
    second = client.get("openai-prod")

    assert second is first
    assert house.count(*READ) == 2


def test_a_moved_version_is_found_when_the_value_is_old(house, connect):
    clock = Clock(time.time())
    client = connect(clock=clock)
    client.get("openai-prod")
    house.put("openai-prod", "sk-second")

    assert client.get("openai-prod").version == 1
    clock.at += 31

    assert client.get("openai-prod").reveal() == "sk-second"


def test_a_token_is_renewed_before_it_ends(house, connect):
    clock = Clock(time.time())
    client = connect(clock=clock)
    client.get("openai-prod")

    clock.at += 900 * 0.59
    client.get("openai-prod")
    assert house.count(*TOKEN) == 1

    clock.at += 900 * 0.22
    client.get("openai-prod")
    assert house.count(*TOKEN) == 2


def test_tokens_are_renewed_at_moments_of_their_own(connect):
    moments = set()
    for _ in range(5):
        client = connect(clock=Clock(1_000_000))
        client.get("openai-prod")
        moments.add(client.client.core._bearer.renew_at)

    assert len(moments) > 1
    assert all(1_000_000 + 540 <= at <= 1_000_000 + 720 for at in moments)


def test_a_token_that_was_ended_is_replaced_once(house, connect):
    clock = Clock(time.time())
    client = connect(clock=clock)
    client.get("openai-prod")
    house.end_tokens()
    clock.at += 31

    assert client.get("openai-prod").reveal() == "sk-first"
    assert house.count(*TOKEN) == 2


def test_a_second_refusal_is_final_and_drops_what_was_held(house, connect):
    clock = Clock(time.time())
    client = connect(clock=clock)
    client.get("openai-prod")
    house.end_tokens()
    house.token_status = 401
    clock.at += 31

    with pytest.raises(BadIdentity):
        client.get("openai-prod")
    house.status = 503
    with pytest.raises(BadIdentity):
        client.get("openai-prod")


def test_a_wrong_secret_is_a_sentence_without_the_secret(connect):
    with pytest.raises(BadIdentity, match="gives this program no token") as refused:
        connect(client_secret="kvs_wrong").get("openai-prod")

    assert "kvs_wrong" not in str(refused.value)


def test_a_program_without_an_identity_is_told_how_to_get_one(connect):
    with pytest.raises(BadIdentity, match="keyvault login"):
        connect(environ={}).get("openai-prod")


def test_a_key_that_is_not_granted_says_how_to_ask(connect):
    with pytest.raises(NotGranted, match="You have no key of this name") as refused:
        connect().get("somebody-elses")

    assert refused.value.next_action == houses.NEXT


def test_the_last_good_version_is_served_while_the_server_is_away(house, connect):
    clock = Clock(time.time())
    client = connect(clock=clock)
    client.get("openai-prod")
    house.status = 503

    clock.at += 299
    assert client.get("openai-prod").reveal() == "sk-first"
    clock.at += 2
    with pytest.raises(Away, match="it answered 503"):
        client.get("openai-prod")


@pytest.mark.parametrize("end", ["not_after", "expires_at"])
def test_no_outage_makes_a_value_outlive_its_answer(house, connect, end):
    house.put("openai-prod", "sk-short", **{end: _in(100)})
    clock = Clock(time.time())
    client = connect(clock=clock, stale_for_s=1000)
    client.get("openai-prod")
    house.status = 503

    clock.at += 90
    assert client.get("openai-prod").reveal() == "sk-short"
    clock.at += 11
    with pytest.raises(Away):
        client.get("openai-prod")


def test_an_answer_that_allows_longer_is_followed(house, connect):
    house.put("openai-prod", "sk-long", not_after=_in(3000))
    clock = Clock(time.time())
    client = connect(clock=clock)
    client.get("openai-prod")
    house.status = 500

    clock.at += 2900

    assert client.get("openai-prod").reveal() == "sk-long"


def test_who_wants_no_stale_value_gets_none(house, connect):
    clock = Clock(time.time())
    client = connect(clock=clock, stale_for_s=0)
    client.get("openai-prod")
    house.status = 503
    clock.at += 31

    with pytest.raises(Away):
        client.get("openai-prod")


def test_a_right_that_was_taken_away_is_not_served_from_memory(house, connect):
    clock = Clock(time.time())
    client = connect(clock=clock)
    client.get("openai-prod")
    taken = house.keys.pop("openai-prod")
    clock.at += 31
    with pytest.raises(NotGranted):
        client.get("openai-prod")

    house.keys["openai-prod"], house.status = taken, 503
    with pytest.raises(Away):
        client.get("openai-prod")


def test_the_wait_that_a_server_asks_for_is_told(house, connect):
    house.status, house.retry_after = 503, "7"

    with pytest.raises(Away) as away:
        connect().get("openai-prod")

    assert away.value.retry_after_s == 7


def test_nobody_there_is_a_sentence(connect):
    port = free_port()

    with pytest.raises(Away, match=rf"keyvault at http://127.0.0.1:{port} is away"):
        connect(url=f"http://127.0.0.1:{port}").get("openai-prod")


def test_a_stranger_at_the_address_is_not_taken_for_keyvault(house, connect):
    house.keys["openai-prod"] = {"key": "another", "version": 1, "value": "x", "etag": "e"}

    with pytest.raises(Away, match="something else than keyvault"):
        connect().get("openai-prod")


def test_a_token_that_cannot_be_renewed_is_used_to_its_end(house, connect):
    clock = Clock(time.time())
    client = connect(clock=clock, stale_for_s=0)
    client.get("openai-prod")
    house.token_status = 503

    clock.at += 850
    assert client.get("openai-prod").version == 1
    clock.at += 51
    with pytest.raises(Away):
        client.get("openai-prod")


def test_a_moved_version_is_followed_over_the_stream(house, connect):
    told = connect().watch("openai-prod")
    assert next(told).version == 1

    threading.Timer(0.3, house.put, ("openai-prod", "sk-second")).start()
    began = time.monotonic()
    second = next(told)

    assert second.reveal() == "sk-second"
    assert time.monotonic() - began < 15  # Asking without a stream would take longer.


def test_a_moved_version_is_followed_by_asking_where_there_is_no_stream(house, connect):
    house.streams = False
    told = connect(refresh_s=0.05).watch("openai-prod")
    next(told)

    threading.Timer(0.2, house.put, ("openai-prod", "sk-second")).start()

    assert next(told).reveal() == "sk-second"


def test_following_outlives_an_outage(house, connect):
    told = connect(refresh_s=0.05, stale_for_s=0).watch("openai-prod")
    next(told)
    house.status = 503
    house.put("openai-prod", "sk-second")
    threading.Timer(0.3, setattr, (house, "status", None)).start()

    assert next(told).reveal() == "sk-second"


def test_following_ends_when_the_right_does(house, connect):
    house.streams = False
    told = connect(refresh_s=0.05).watch("openai-prod")
    next(told)
    del house.keys["openai-prod"]

    with pytest.raises(NotGranted):
        next(told)


def test_a_heartbeat_says_which_versions_are_held(house, connect):
    house.api["POST", "/v1/heartbeat"] = (200, {"keys": []})
    client = connect()
    client.heartbeat()
    assert house.bodies == []

    client.get("openai-prod")
    client.heartbeat()
    client.heartbeat(healthy=False)

    assert house.bodies == [
        {"keys": {"openai-prod": 1}, "healthy": True},
        {"keys": {"openai-prod": 1}, "healthy": False},
    ]


def test_more_keys_than_one_heartbeat_takes_are_told_in_several(house, connect):
    house.api["POST", "/v1/heartbeat"] = (200, {"keys": []})
    client = connect()
    for number in range(51):
        house.put(f"key-{number}", "sk")
        client.get(f"key-{number}")

    client.heartbeat()

    assert [len(body["keys"]) for body in house.bodies] == [50, 1]


def test_a_heartbeat_that_is_refused_says_so(house, connect):
    house.api["POST", "/v1/heartbeat"] = (404, {"detail": "No such key."})
    client = connect()
    client.get("openai-prod")

    with pytest.raises(NotGranted):
        client.heartbeat()


def test_a_key_that_is_no_longer_granted_keeps_no_heartbeat_of_the_others_back(house, connect):
    def beat(body):
        lost = [name for name in body["keys"] if name not in house.keys]
        return (404, {"keys": lost, "detail": "No such key."}) if lost else (200, {"keys": []})

    house.api["POST", "/v1/heartbeat"] = beat
    client = connect()
    for name in ("key-0", "key-1"):
        house.put(name, "sk")
        client.get(name)
    del house.keys["key-0"]

    with pytest.raises(NotGranted):
        client.heartbeat()
    client.heartbeat()

    assert [list(body["keys"]) for body in house.bodies] == [
        ["key-0", "key-1"],
        ["key-1"],
        ["key-1"],
    ]
    with pytest.raises(NotGranted):
        client.get("key-0")


def test_the_api_is_called_under_the_same_token(house, connect):
    house.api["POST", "/api/v1/requests"] = (201, {"reference": "REQ-1"})

    client = connect()

    assert client.api("POST", "/requests", body={"kind": "key.create"}) == {"reference": "REQ-1"}
    assert house.bodies == [{"kind": "key.create"}]
    with pytest.raises(NotGranted):
        client.api("GET", "/agents")


def test_a_refusal_of_the_api_keeps_its_problem(house, connect):
    house.api["GET", "/api/v1/agents"] = (422, {"title": "No", "detail": "Not so."})

    with pytest.raises(Refused, match="Not so") as refused:
        connect().api("GET", "/agents")

    assert refused.value.status == 422


@pytest.mark.parametrize(
    "environ",
    [
        {"KEYVAULT_ID_TOKEN": "outside"},
        {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t", "ACTIONS_ID_TOKEN_REQUEST_URL": "{outside}?v=1"},
    ],
    ids=["gitlab", "github"],
)
def test_a_job_exchanges_the_token_of_its_platform(house, connect, environ):
    filled = {k: v.replace("{outside}", house.outside_url) for k, v in environ.items()}

    assert connect(environ=filled).get("openai-prod").version == 1

    form = house.forms[-1]
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    assert form["subject_token"] in {"outside", f"outside for {house.url}"}


def test_a_projected_token_is_read_anew_for_every_exchange(house, connect, tmp_path):
    path = tmp_path / "token"
    path.write_text("first\n")
    clock = Clock(time.time())
    client = connect(environ={"KEYVAULT_ID_TOKEN_FILE": str(path)}, clock=clock)
    client.get("openai-prod")
    path.write_text("second\n")
    clock.at += 890

    client.get("openai-prod")

    assert [form["subject_token"] for form in house.forms] == ["first", "second"]


@pytest.mark.parametrize("kind", ["EC", "RSA", "OKP"])
@pytest.mark.parametrize("form", ["jwk", "pem"])
def test_an_own_key_signs_an_assertion_that_verifies(house, connect, tmp_path, kind, form):
    from joserfc import jwk, jwt

    pair = jwk.generate_key(kind, {"EC": "P-256", "RSA": 2048, "OKP": "Ed25519"}[kind])
    path = tmp_path / "key"
    if form == "jwk":
        path.write_text(json.dumps(pair.as_dict(private=True)))
    else:
        path.write_bytes(pair.as_pem(private=True))

    connect(environ={"KEYVAULT_CLIENT_ID": "agent-1", "KEYVAULT_PRIVATE_KEY_FILE": str(path)}).get(
        "openai-prod"
    )

    sent = house.forms[-1]
    algorithms = ["ES256", "PS256", "Ed25519"]
    claims = jwt.decode(sent["client_assertion"], pair, algorithms=algorithms).claims
    assert claims["iss"] == claims["sub"] == "agent-1"
    assert claims["aud"] == f"{house.url}/token"
    assert claims["exp"] - claims["iat"] == 60
    assert len(claims["jti"]) == 32


def test_a_public_key_cannot_sign(house, connect, tmp_path):
    from joserfc import jwk

    path = tmp_path / "key"
    path.write_text(json.dumps(jwk.generate_key("EC", "P-256").as_dict(private=False)))

    environ = {"KEYVAULT_CLIENT_ID": "agent-1", "KEYVAULT_PRIVATE_KEY_FILE": str(path)}
    with pytest.raises(BadIdentity, match="holds no private key"):
        connect(environ=environ).get("openai-prod")


def test_a_kept_connection_that_was_closed_is_replaced(house, connect):
    clock = Clock(time.time())
    client = connect(clock=clock)
    client.get("openai-prod")
    for kept in (
        getattr(client.client, "_sockets", None)._idle.values()
        if hasattr(client.client, "_sockets")
        else ()
    ):
        for link in kept:
            link.sock.shutdown(2)
    clock.at += 31

    assert client.get("openai-prod").version == 1


def test_background_refresh_keeps_values_young(house):
    house.streams = False
    with Client(
        house.url, client_id=houses.CLIENT_ID, client_secret=houses.SECRET, refresh_s=0.2
    ) as client:
        client.get("openai-prod")
        client.keep_fresh("openai-prod")
        house.put("openai-prod", "sk-second")
        until = time.monotonic() + 5
        while client.core._held["openai-prod"].value.version == 1 and time.monotonic() < until:
            time.sleep(0.02)

        assert client.core._held["openai-prod"].value.reveal() == "sk-second"


def test_closing_ends_a_watch_that_waits(house):
    client = Client(house.url, client_id=houses.CLIENT_ID, client_secret=houses.SECRET)
    told = client.watch("openai-prod")
    next(told)
    threading.Timer(0.2, client.close).start()

    assert list(told) == []


@pytest.mark.parametrize(
    "url", ["http://keyvault.example", "ftp://localhost", "keyvault", "https://"]
)
def test_no_secret_is_sent_to_an_address_without_tls(url):
    with pytest.raises(BadSettings, match="no https address"):
        Settings(url=url)


def test_a_console_cannot_send_the_client_to_an_address_without_tls(house, connect, monkeypatch):
    monkeypatch.setattr(
        houses._Handler,
        "_addresses",
        lambda self: {
            "api": "https://x.example",
            "gateway": "http://x.example",
            "token_endpoint": "https://x.example",
            "device_authorization_endpoint": "https://x.example",
        },
    )

    with pytest.raises(BadSettings, match=r"http://x\.example"):
        connect().get("openai-prod")


def test_the_address_must_be_known():
    with pytest.raises(BadSettings, match="KEYVAULT_URL is not set"):
        from_environment({})


def test_a_secret_without_its_agent_is_refused():
    with pytest.raises(BadSettings, match="KEYVAULT_CLIENT_ID is not set"):
        from_environment({"KEYVAULT_URL": "https://kv.example", "KEYVAULT_CLIENT_SECRET": "s"})


def test_a_file_that_is_gone_is_a_sentence(house, connect, tmp_path):
    environ = {
        "KEYVAULT_CLIENT_ID": "agent-1",
        "KEYVAULT_CLIENT_SECRET_FILE": str(tmp_path / "gone"),
    }

    with pytest.raises(BadIdentity, match="cannot be read: No such file"):
        connect(environ=environ).get("openai-prod")


@pytest.mark.parametrize(
    ("host", "spared", "goes"),
    [
        ("kv.example", "", ("proxy.example", 3128)),
        ("kv.example", "other.example", ("proxy.example", 3128)),
        ("kv.example", "example", None),
        ("kv.example", ".kv.example,other", None),
        ("kv.example", "*", None),
    ],
)
def test_a_proxy_is_used_unless_the_host_is_spared(monkeypatch, host, spared, goes):
    from keyvault.client import sockets

    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", spared)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    assert sockets._proxy(host) == goes
