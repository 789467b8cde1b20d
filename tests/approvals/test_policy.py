"""The pure core: matching, eligibility, seating and judging, with properties."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approvals.policy import eligibility, matching, yielding
from approvals.policy.eligibility import Facts, Seat, electorate
from approvals.policy.judging import Ruling, Verdict, Vote, judge, shortfall
from approvals.policy.rules import Auto, BadPolicy, Rules, Stage, fold, strictness
from approvals.policy.seating import seat
from approvals.ports import Member, Standing

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ASKED = NOW - timedelta(hours=1)
BEFORE = NOW - timedelta(days=30)


def who(number):
    return UUID(int=number)


ALICE, BOB, CAROL, DAN, EVE = map(who, range(1, 6))
PROD = Rules(
    name="prod",
    stages=(
        Stage("Security", groups=("security",)),
        Stage("Owner's team", roles=("owner_team",)),
    ),
    different_teams=True,
)


def standing(person, **more):
    return Standing(person, str(person.int), **({"active": True, "enrolled": True} | more))


def facts(members, *, requester=ALICE, standings=None, joined=BEFORE, **more):
    people = {requester, *(person for person, _ in members)}
    known = {person: standing(person) for person in people} | (standings or {})
    rows = [Member(person, group, joined) for person, group in members]
    return Facts(requester, ASKED, NOW, known, rows, **more)


def house(**more):
    team = frozenset({ALICE, CAROL})
    roles = {"owner_team": team}
    members = [(BOB, "security"), (ALICE, "payments"), (CAROL, "payments")]
    return facts(
        members,
        roles=roles,
        roles_then=more.pop("roles_then", roles),
        teams={"owner_team": frozenset({"payments"})},
        **more,
    )


def ruling(rules, known, *votes):
    found = [Vote(person, Verdict(verdict), *rest) for person, verdict, *rest in votes]
    return judge(rules, electorate(rules, known), found).ruling


# --- matching ------------------------------------------------------------------------


def policy(name, scope=None, quorum=1, **more):
    stages = (Stage("s", groups=("g",), quorum=quorum),)
    folded = {key: frozenset(map(fold, values)) for key, values in (scope or {}).items()}
    return Rules(name=name, scope=folded, stages=stages, **more)


def test_the_most_specific_policy_wins_and_ties_go_to_the_stricter():
    wide, narrow = policy("wide", quorum=5), policy("narrow", {"environment": ["dev"]})
    tie = policy("tie", {"environment": ["dev"]}, quorum=2)
    found = {"environment": frozenset({"dev"})}
    assert matching.match([wide, narrow], kind="k", attributes=found).name == "narrow"
    assert matching.match([wide, narrow, tie], kind="k", attributes=found).name == "tie"


def test_a_change_that_touches_two_environments_is_judged_by_the_stricter():
    dev = policy("dev", {"environment": ["dev"], "kind": ["k"]})
    prod = policy("prod", {"environment": ["prod"]}, quorum=2)
    found = {"environment": frozenset({"dev", "prod"})}
    assert matching.match([dev, prod], kind="k", attributes=found).name == "prod"


def test_a_deny_rule_beats_every_approve_rule_however_specific():
    deny = policy("deny", {"kind": ["k"]}, auto=Auto.DENY)
    lax = policy("lax", {"kind": ["k"], "environment": ["dev"]}, auto=Auto.APPROVE)
    found = {"environment": frozenset({"dev"})}
    assert matching.match([deny, lax], kind="k", attributes=found).name == "deny"


@pytest.mark.parametrize("spelling", ["PROD", " prod ", "\uff30\uff32\uff2f\uff24", "Prod"])
def test_r35_names_match_in_any_spelling(spelling):
    prod = policy("prod", {"environment": ["prod"]})
    found = {"environment": frozenset({spelling})}
    assert matching.match([prod], kind="k", attributes=found).name == "prod"


def test_nothing_covers_an_act_that_lacks_a_name_of_the_scope():
    with pytest.raises(matching.NoPolicy):
        matching.match([policy("p", {"environment": ["prod"]})], kind="k", attributes={})


names = st.sampled_from(["environment", "provider", "label"])
values = st.frozensets(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3)
scopes = st.dictionaries(names, values, max_size=3)
policies = st.lists(
    st.builds(
        lambda name, scope, quorum, auto: policy(name, scope, quorum, auto=auto),
        st.text("pqrs", min_size=1, max_size=3),
        scopes,
        st.integers(1, 4),
        st.sampled_from(list(Auto)),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda rules: rules.name,
)


@given(policies, scopes)
def test_the_order_of_policies_never_matters(found, attributes):
    results = set()
    for order in list(permutations(found))[:6]:
        try:
            results.add(matching.match(order, kind="k", attributes=attributes).name)
        except matching.NoPolicy:
            results.add(None)
    assert len(results) == 1


@given(policies, scopes, names, st.sampled_from(["a", "b", "c"]))
def test_more_values_never_make_an_act_easier(found, attributes, name, value):
    if name not in attributes:
        return
    try:
        before = matching.match(found, kind="k", attributes=attributes)
    except matching.NoPolicy:
        return
    wider = attributes | {name: attributes[name] | {value}}
    try:
        after = matching.match(found, kind="k", attributes=wider)
    except matching.NoPolicy:
        return  # Refused outright is the strictest of all.
    assert strictness(after) >= strictness(before)


# --- wording -------------------------------------------------------------------------


@given(policies)
def test_policies_survive_json(found):
    for rules in found:
        assert Rules.from_json(rules.to_json()) == rules


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": " ", "stages": [{"name": "s", "groups": ["g"]}]},
        {"name": "n"},
        {"name": "n", "stages": [{"name": "s"}]},
        {"name": "n", "stages": [{"name": "s", "groups": ["g"], "quorum": 0}]},
        {"name": "n", "stages": [{"name": "s", "groups": ["g"], "quorom": 1}]},
        {"name": "n", "auto": "approve", "tll_s": 5},
        {"name": "n", "auto": "approve", "ttl_s": 0},
        {"name": "n", "auto": "approve", "scope": ["x"]},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_in_a_sentence(body):
    with pytest.raises(BadPolicy):
        Rules.from_json(body)


# --- eligibility ---------------------------------------------------------------------


def why_not(known, person, rules=PROD):
    return electorate(rules, known).why_not(person)


def test_r15_the_requester_and_linked_accounts_never_decide():
    linked = {CAROL: standing(CAROL, linked=frozenset({ALICE}))}
    assert why_not(house(), ALICE) == eligibility.SELF
    assert why_not(house(standings=linked), CAROL) == eligibility.LINKED


def test_r15_links_of_links_are_one_human():
    chain = {
        CAROL: standing(CAROL, linked=frozenset({DAN})),
        DAN: standing(DAN, linked=frozenset({ALICE})),
    }
    assert why_not(house(standings=chain), CAROL) == eligibility.LINKED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"active": False}, eligibility.INACTIVE),
        ({"enrolled": False}, eligibility.NOT_ENROLLED),
        ({"barred_until": NOW + timedelta(seconds=1)}, eligibility.BARRED),
        ({"barred_until": ASKED + timedelta(hours=24, seconds=1)}, eligibility.BARRED),
    ],
)
def test_an_account_that_is_not_fit_does_not_decide_and_reads_why(change, reason):
    assert why_not(house(standings={BOB: standing(BOB, **change)}), BOB) == reason


def test_a_factor_reset_after_the_request_never_counts_for_it():
    known = house(standings={BOB: standing(BOB, barred_until=NOW - timedelta(minutes=1))})
    late = Facts(
        **{name: getattr(known, name) for name in known.__dataclass_fields__}
        | {"submitted_at": NOW - timedelta(hours=25)}
    )
    assert why_not(late, BOB) == eligibility.RESET_SINCE
    assert why_not(known, BOB) == ""


def test_who_joined_later_never_counts_directly_or_through_a_role():
    late = [Member(DAN, "security", NOW), Member(EVE, "payments", NOW)]
    known = house(roles_then={"owner_team": frozenset({ALICE, CAROL})})
    roles = {"owner_team": frozenset({ALICE, CAROL, EVE})}
    more = {DAN: standing(DAN), EVE: standing(EVE)}
    known = Facts(
        **{name: getattr(known, name) for name in known.__dataclass_fields__}
        | {
            "members": [*known.members, *late],
            "roles": roles,
            "standings": dict(known.standings) | more,
        }
    )
    assert why_not(known, DAN) == eligibility.LATE
    assert why_not(known, EVE) == eligibility.LATE


def test_a_policy_may_keep_the_owner_from_deciding():
    rules = Rules(
        name="r", stages=(Stage("s", groups=("security",)),), exclude=frozenset({"owner"})
    )
    known = facts([(BOB, "security")], roles={"owner": frozenset({BOB})})
    assert "owner" in why_not(known, BOB, rules)


@pytest.mark.parametrize(("kept", "account"), [(BOB, CAROL), (CAROL, BOB), (BOB, BOB)])
def test_whom_a_policy_keeps_from_deciding_does_not_decide_by_another_account(kept, account):
    rules = Rules(
        name="r", stages=(Stage("s", groups=("security",)),), exclude=frozenset({"owner"})
    )
    linked = {BOB: standing(BOB, linked=frozenset({CAROL}))}
    known = facts(
        [(BOB, "security"), (CAROL, "security"), (DAN, "security")],
        roles={"owner": frozenset({kept})},
        standings=linked,
    )
    assert "owner" in why_not(known, account, rules)
    assert why_not(known, DAN, rules) == ""


def test_a_stranger_is_told_that_and_nothing_else():
    assert why_not(house(), EVE) == eligibility.STRANGER


# --- judging -------------------------------------------------------------------------


def test_production_takes_security_and_the_owners_team():
    assert ruling(PROD, house()) == Ruling.PENDING
    assert ruling(PROD, house(), (BOB, "approve")) == Ruling.PENDING
    assert ruling(PROD, house(), (BOB, "approve"), (CAROL, "approve")) == Ruling.APPROVED


def test_one_person_in_both_groups_fills_one_place():
    known = house()
    members = [*known.members, Member(BOB, "payments", BEFORE)]
    roles = {"owner_team": frozenset({ALICE, BOB, CAROL})}
    both = Facts(
        **{name: getattr(known, name) for name in known.__dataclass_fields__}
        | {"members": members, "roles": roles, "roles_then": roles}
    )
    assert ruling(PROD, both, (BOB, "approve")) == Ruling.PENDING
    assert ruling(PROD, both, (BOB, "approve"), (CAROL, "approve")) == Ruling.APPROVED


def test_two_people_of_one_team_are_not_two_teams():
    roles = {"owner_team": frozenset({BOB, CAROL})}
    known = facts(
        [(BOB, "security"), (CAROL, "security")],
        roles=roles,
        roles_then=roles,
        teams={"owner_team": frozenset({"security"})},
    )
    assert ruling(PROD, known, (BOB, "approve"), (CAROL, "approve")) == Ruling.PENDING
    assert "different teams" in shortfall(PROD, electorate(PROD, known))


def test_linked_accounts_share_one_vote():
    rules = Rules(name="r", stages=(Stage("s", groups=("g",), quorum=2),))
    linked = {BOB: standing(BOB, linked=frozenset({CAROL}))}
    known = facts([(BOB, "g"), (CAROL, "g"), (DAN, "g")], standings=linked)
    assert ruling(rules, known, (BOB, "approve"), (CAROL, "approve")) == Ruling.PENDING
    assert ruling(rules, known, (BOB, "approve"), (DAN, "approve")) == Ruling.APPROVED


def test_ordered_stages_count_only_votes_of_their_turn():
    stages = (Stage("first", groups=("g",)), Stage("second", groups=("h",)))
    rules = Rules(name="r", stages=stages, ordered=True)
    known = facts([(BOB, "g"), (CAROL, "h"), (DAN, "g"), (DAN, "h")])
    assert ruling(rules, known, (CAROL, "approve", 0)) == Ruling.PENDING
    assert ruling(rules, known, (BOB, "approve", 0), (CAROL, "approve", 1)) == Ruling.APPROVED
    judged = judge(rules, electorate(rules, known), [Vote(BOB, Verdict.APPROVE, 0)])
    assert judged.open_stage == 1


def test_a_deny_quorum_counts_people():
    rules = Rules(name="r", stages=(Stage("s", groups=("g",), quorum=3, deny_quorum=2),))
    known = facts([(BOB, "g"), (CAROL, "g"), (DAN, "g"), (EVE, "g")])
    assert ruling(rules, known, (BOB, "reject")) == Ruling.PENDING
    assert ruling(rules, known, (BOB, "reject"), (CAROL, "reject")) == Ruling.REJECTED


people = st.sampled_from([who(number) for number in range(1, 7)])
groups = st.sampled_from(["g", "h", "i"])
memberships = st.lists(st.tuples(people, groups), max_size=12)
stages = st.lists(
    st.builds(
        Stage,
        name=st.just("s"),
        groups=st.lists(groups, min_size=1, max_size=2, unique=True).map(tuple),
        quorum=st.integers(1, 2),
        deny_quorum=st.integers(1, 2),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
rulebooks = st.builds(Rules, name=st.just("r"), stages=stages, different_teams=st.booleans())
ballots = st.lists(
    st.tuples(people, st.sampled_from(list(Verdict))), max_size=8, unique_by=lambda vote: vote[0]
)


def votes_of(pairs):
    return [Vote(person, verdict) for person, verdict in pairs]


@given(rulebooks, memberships, ballots)
def test_approval_needs_enough_different_eligible_people(rules, members, pairs):
    known = facts(members)
    voters = electorate(rules, known)
    judged = judge(rules, voters, votes_of(pairs))
    if judged.ruling != Ruling.APPROVED:
        return
    approvers = {person for person, verdict in pairs if verdict == Verdict.APPROVE}
    assert set(judged.seated) <= approvers - {ALICE}
    assert len(judged.seated) == rules.quorum
    for person, chair in judged.seated.items():
        assert chair in voters.seats[person]
    if rules.different_teams:
        assert len({chair.team for chair in judged.seated.values()}) == rules.quorum


@given(rulebooks, memberships, ballots)
def test_the_requesters_own_vote_never_changes_anything(rules, members, pairs):
    voters = electorate(rules, facts(members))
    others = [pair for pair in pairs if pair[0] != ALICE]
    for verdict in Verdict:
        with_own = judge(rules, voters, votes_of([*others, (ALICE, verdict)]))
        assert with_own.ruling == judge(rules, voters, votes_of(others)).ruling


@given(rulebooks, memberships, ballots, st.randoms())
def test_the_order_of_votes_never_matters_in_parallel_stages(rules, members, pairs, dice):
    voters = electorate(rules, facts(members))
    shuffled = list(pairs)
    dice.shuffle(shuffled)
    first = judge(rules, voters, votes_of(pairs))
    second = judge(rules, voters, votes_of(shuffled))
    assert first.ruling == second.ruling


@given(rulebooks, memberships, ballots)
def test_another_approval_never_takes_an_approval_away(rules, members, pairs):
    voters = electorate(rules, facts(members))
    if judge(rules, voters, votes_of(pairs)).ruling != Ruling.APPROVED:
        return
    for person in set(voters.seats) - {person for person, _ in pairs}:
        more = votes_of([*pairs, (person, Verdict.APPROVE)])
        assert judge(rules, voters, more).ruling == Ruling.APPROVED


@given(rulebooks, memberships)
def test_a_quorum_is_called_reachable_exactly_when_everybody_together_reaches_it(rules, members):
    voters = electorate(rules, facts(members))
    everybody = votes_of([(person, Verdict.APPROVE) for person in voters.seats])
    reached = judge(rules, voters, everybody).ruling == Ruling.APPROVED
    assert reached == (not shortfall(rules, voters))


@settings(max_examples=200)
@given(rulebooks, memberships)
def test_seating_is_as_large_as_trying_every_way(rules, members):
    voters = electorate(rules, facts(members))
    places = [n for n, stage in enumerate(rules.stages) for _ in range(stage.quorum)]

    def best(index, used, teams):
        if index == len(places):
            return 0
        found = best(index + 1, used, teams)
        for person, seats in voters.seats.items():
            for chair in seats:
                clash = rules.different_teams and chair.team in teams
                if chair.stage == places[index] and person not in used and not clash:
                    found = max(found, 1 + best(index + 1, used | {person}, teams | {chair.team}))
        return found

    assert len(seat(rules, voters.seats)) == best(0, frozenset(), frozenset())


def test_people_named_by_a_policy_stand_for_no_team():
    rules = Rules(
        name="r", stages=(Stage("s", people=(BOB, CAROL), quorum=2),), different_teams=True
    )
    known = facts([], standings={BOB: standing(BOB), CAROL: standing(CAROL)})
    assert electorate(rules, known).seats[BOB] == frozenset({Seat(0, "")})
    assert ruling(rules, known, (BOB, "approve"), (CAROL, "approve")) == Ruling.APPROVED


# --- stepping back -------------------------------------------------------------------

OWN = Rules(
    name="people", stages=(Stage("Another", groups=("admins",)),), step_back=frozenset({"owner"})
)


def concerned(people, *, owner=BOB, **more):
    roles = {"owner": frozenset({owner})}
    known = facts([(person, "admins") for person in people], roles=roles, roles_then=roles, **more)
    return yielding.step_back(OWN, known, electorate(OWN, known))


def test_the_person_concerned_steps_back_where_others_can_decide():
    voters = concerned([ALICE, BOB, CAROL])

    assert set(voters.seats) == {CAROL}
    assert voters.why_not(BOB) == yielding.CONCERNED
    assert not voters.spared


def test_the_person_concerned_decides_where_nobody_else_can_and_it_is_said():
    voters = concerned([ALICE, BOB])

    assert set(voters.seats) == {BOB}
    assert voters.spared == {BOB}


def test_somebody_who_cannot_decide_is_no_other():
    unfit = {CAROL: standing(CAROL, enrolled=False)}

    assert concerned([ALICE, BOB, CAROL], standings=unfit).spared == {BOB}


def test_a_linked_account_of_the_person_concerned_steps_back_too():
    linked = {DAN: standing(DAN, linked=frozenset({BOB}))}

    assert set(concerned([ALICE, CAROL, DAN], standings=linked).seats) == {CAROL}
    assert concerned([ALICE, DAN], standings=linked).spared == {DAN}


def test_stepping_back_survives_json_and_counts_as_stricter():
    assert Rules.from_json(OWN.to_json()) == OWN
    assert strictness(OWN) > strictness(Rules(name="people", stages=OWN.stages))
