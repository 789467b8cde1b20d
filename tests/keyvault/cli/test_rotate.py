"""`keyvault rotate`: what is asked, what is told on the way, and a code for each end."""

from __future__ import annotations

import json

import pytest

from tests.servers import free_port

KEY, ROTATION_ID = "openai-prod", "00000000-0000-4000-8000-00000000000a"
TRIGGER = f"/api/v1/keys/{KEY}/rotations"
ROTATION = f"/api/v1/rotations/{ROTATION_ID}"
REQUEST_ID = "00000000-0000-4000-8000-00000000000b"
REQUEST = f"/api/v1/requests/{REQUEST_ID}"


def request(state="approved", **more):
    facts = {"id": REQUEST_ID, "label": "REQ-7", "state": state, "progress": None}
    usual = facts | {"page": f"/requests/{REQUEST_ID}/", "end_sentence": "", "outcome": None}
    if state == "done":
        usual["outcome"] = {"facts": {"Key": KEY, "Rotation": ROTATION_ID}}
    return usual | more


def rotation(state="promoting", done=0, **more):
    is_over = state in {"completed", "rolled_back"}
    return {
        "id": ROTATION_ID,
        "key": KEY,
        "state": state,
        "old_version": 1,
        "new_version": None if state in {"planned", "creating"} else 2,
        "progress": {"done": done, "of": 2},
        "sentence": "",
        "choices": [],
        "page": f"/rotations/{ROTATION_ID}/",
        "ended_at": "2026-11-27T00:00:00Z" if is_over else None,
    } | more


def turns(*answers):
    """Answer one after the other, and the last one from then on."""
    left = list(answers)
    return lambda _body: (200, left.pop(0) if len(left) > 1 else left[0])


@pytest.fixture
def agent(terminal):
    return terminal.as_agent()


@pytest.fixture
def begun(house):
    """A house whose trigger answers with the rotation at once."""
    house.api["POST", TRIGGER] = (201, {"request": request(), "rotation": rotation("planned")})
    return house


def test_a_trigger_says_what_asks_and_returns_at_once(house, agent):
    house.api["POST", TRIGGER] = (201, {"request": request(), "rotation": None})

    result = agent.run(
        *("rotate", KEY, "--reason", "ci", "--deploy-id", "d-42", "--comment", "At noon.")
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert house.bodies == [{"reason": "ci", "deploy_id": "d-42", "comment": "At noon."}]
    assert "REQ-7" in result.stdout
    assert f"{house.url}/requests/{REQUEST_ID}/" in result.stdout
    assert house.count("GET", ROTATION) == 0


def test_programs_get_what_the_server_said(house, agent):
    made = {"request": request(), "rotation": None}
    house.api["POST", TRIGGER] = (201, made)

    assert json.loads(agent.run("rotate", KEY, "--json").stdout) == made
    assert house.bodies == [{"reason": "manual"}]


def test_a_rotation_is_followed_to_its_end_with_a_line_for_each_change(house, agent):
    house.api["POST", TRIGGER] = (201, {"request": request(), "rotation": None})
    house.api["GET", REQUEST] = turns(request("executing"), request("done"))
    house.api["GET", ROTATION] = turns(
        rotation("creating"),
        rotation("promoting"),
        rotation("promoting", 1),
        rotation("promoting", 1, since="later"),
        rotation("draining", 2),
        rotation("completed", 2),
    )

    result = agent.run("rotate", KEY, "--wait")

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "REQ-7: approved",
        "openai-prod: creating, 0 of 2 dependents",
        "openai-prod v1 -> v2: rolling out, 0 of 2 dependents",
        "openai-prod v1 -> v2: rolling out, 1 of 2 dependents",
        "openai-prod v1 -> v2: draining, 2 of 2 dependents",
        "openai-prod v1 -> v2: done, 2 of 2 dependents",
    ]


@pytest.mark.parametrize(
    ("ended", "code", "words"),
    [
        (
            rotation("rolled_back", sentence="refund-bot is ill\x1b[2J."),
            6,
            "The rotation of openai-prod went back; version 1 is in use. refund-bot is ill",
        ),
        (
            rotation("held", choices=["extend", "roll_back"], sentence="A did not confirm."),
            7,
            f"/rotations/{ROTATION_ID}/ A did not confirm. To choose: extend, roll back.",
        ),
    ],
)
def test_an_end_that_a_person_must_know_of_has_its_code(begun, agent, ended, code, words):
    begun.api["GET", ROTATION] = turns(rotation(), ended)

    result = agent.run("rotate", KEY, "--wait")
    begun.api["GET", ROTATION] = turns(rotation(), ended)
    as_json = agent.run("rotate", KEY, "--wait", "--json")

    assert result.returncode == as_json.returncode == code
    assert words in result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    assert json.loads(as_json.stdout) == ended


def test_the_time_is_over_before_the_rotation_is(begun, agent):
    begun.api["GET", ROTATION] = (200, rotation(done=1))

    result = agent.run("rotate", KEY, "--wait", "--timeout", "1")

    assert result.returncode == 8
    assert "The time is over; the rotation goes on." in result.stderr
    assert "rolling out, 1 of 2" in result.stderr
    # Answers that bring no news and came at once are not asked for again and again.
    assert begun.count("GET", ROTATION) < 5


def test_what_is_not_approved_rotates_nothing(house, agent):
    waits = request("pending", progress={"have": 0, "need": 1})
    house.api["POST", TRIGGER] = (201, {"request": waits, "rotation": None})
    refused = request("rejected", end_sentence="Not today.")
    house.api["GET", REQUEST] = turns(refused)

    result = agent.run("rotate", KEY, "--wait")

    assert result.returncode == 4
    assert result.stdout.splitlines()[0] == "REQ-7: waits for a decision, 0 of 1 approvals"
    assert "REQ-7 rotates nothing. Not today." in result.stderr


def test_a_server_that_is_away_for_a_moment_is_waited_for(begun, agent):
    states = iter([503, 503, 200])

    def answer(_body):
        status = next(states, 200)
        return (status, rotation("completed", 2) if status == 200 else {"title": "away"})

    begun.api["GET", ROTATION] = answer

    result = agent.run("rotate", KEY, "--wait")

    assert result.returncode == 0, result.stderr
    away = [line for line in result.stdout.splitlines() if "is away" in line]
    assert len(away) == 1


def test_a_server_that_stays_away_is_said_with_the_code_of_it(begun, agent):
    begun.api["GET", ROTATION] = (503, {"title": "away"})

    result = agent.run("rotate", KEY, "--wait", "--timeout", "1")

    assert result.returncode == 3
    assert "still away" in result.stderr


def test_a_trigger_without_a_server_is_one_sentence(agent):
    agent.env["KEYVAULT_URL"] = f"http://127.0.0.1:{free_port()}"

    result = agent.run("rotate", KEY, "--wait")

    assert result.returncode == 3
    assert len(result.stderr.splitlines()) == 1
    assert "is away" in result.stderr


def test_a_refusal_says_what_to_do(house, agent):
    house.api["POST", TRIGGER] = (409, {"detail": "openai-prod is being rotated already."})

    result = agent.run("rotate", KEY)

    assert (result.returncode, result.stdout) == (4, "")
    assert "is being rotated already" in result.stderr


def test_a_deployment_that_somebody_else_asked_for_is_not_guessed_at(house, agent):
    house.api["POST", TRIGGER] = (200, {"request": None, "rotation": None})

    assert agent.run("rotate", KEY, "--deploy-id", "d").returncode == 0
    assert agent.run("rotate", KEY, "--deploy-id", "d", "--wait").returncode == 4


@pytest.mark.parametrize("arguments", [["--reason", "cadence"], ["--timeout", "0"], ["a", "b"]])
def test_wrong_usage_sends_nothing(house, agent, arguments):
    result = agent.run("rotate", KEY, *arguments)

    assert result.returncode == 2
    assert house.bodies == []
