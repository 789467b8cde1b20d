"""What differs between two wordings of a plan is told row by row, and nothing else is."""

from approvals.ports import Change, Plan, Subject
from approvals.selectors import diffs


def _plan(**body):
    target = Subject("wall", "east", "east")
    rows = (Change("Colour", "grey", "green"),)
    return Plan("Paint", "Paint it.", target, "f" * 16, rows, body=body).to_json()


def test_equal_wordings_differ_in_nothing():
    assert diffs.changes(_plan(coats=2), _plan(coats=2)) == ()


def test_of_an_object_only_the_members_that_differ_are_told():
    old = _plan(declared={"per_day": 5000, "hosts": ["a"], "depth": {"mm": 1, "in": 0}})
    new = _plan(declared={"per_day": 9000, "hosts": ["a"], "depth": {"mm": 2, "in": 0}})

    assert diffs.changes(old, new) == (
        Change("Declared: depth: mm", "1", "2"),
        Change("Declared: per day", "5000", "9000"),
    )


def test_a_member_that_comes_or_goes_is_told():
    (row,) = diffs.changes(_plan(declared={}), _plan(declared={"per_day": 1}))

    assert (row.field, row.now, row.then) == ("Declared: per day", "", "1")
