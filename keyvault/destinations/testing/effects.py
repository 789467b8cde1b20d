"""What each call brings about, and what it leaves alone. Part of the conformance suite."""

from __future__ import annotations

import re
from dataclasses import replace
from threading import Barrier, Thread
from typing import TYPE_CHECKING, cast

import pytest

from keyvault.destinations.base import Conflict, Observed, State, Version
from keyvault.destinations.testing.bench import Bench, make_version, put_live, secret_of
from keyvault.destinations.testing.calls import (
    able,
    needs_foreign,
    observe,
    promote,
    race,
    traces_of,
    verify,
)

if TYPE_CHECKING:
    from keyvault.plugins.context import Call

KIND = re.compile(r"[a-z][a-z0-9_]{1,39}")


class Effects:
    """The promises that hold while nothing fails."""

    def test_a_version_goes_from_nothing_to_live(self, bench: Bench) -> None:
        """Stage, promote, verify, observe; and a consumer gets exactly this value."""
        assert observe(bench) == Observed(None, etag=observe(bench).etag)
        first = make_version()
        assert verify(bench, first) is not State.OK
        assert put_live(bench, first).live == first.id
        assert verify(bench, first) is State.OK
        assert observe(bench).live == first.id
        assert not observe(bench).is_foreign
        assert bench.consumed() == secret_of(first)
        assert bench.destination.check(bench.call()) == []

    def test_what_is_staged_is_not_live(self, bench: Bench) -> None:
        """Nobody who reads gets it, and it is named as lying beside."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        before = bench.state()
        bench.destination.stage(bench.call(), second)
        bench.destination.stage(bench.call(), second)
        assert bench.consumed() == secret_of(first)
        assert observe(bench).live == first.id
        assert verify(bench, first) is State.OK
        assert verify(bench, second) is not State.OK
        if able(bench).stages:
            assert observe(bench).staged == (second.id,)
        else:
            assert bench.state() == before

    def test_the_next_version_takes_over(self, bench: Bench) -> None:
        """The old one is neither live nor staged afterwards, and says so."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        assert put_live(bench, second, first).live == second.id
        assert verify(bench, second) is State.OK
        assert verify(bench, first) is not State.OK
        assert bench.consumed() == secret_of(second)
        assert first.id not in observe(bench).staged

    def test_a_version_need_not_be_staged_to_become_live(self, bench: Bench) -> None:
        """What was staged may have been cleaned up by the time it is wanted."""
        first, second = make_version(1), make_version(2)
        promote(bench, first)
        promote(bench, second, first)
        bench.settle()
        assert bench.consumed() == secret_of(second)

    def test_promote_twice_is_one_change(self, bench: Bench) -> None:
        """Whoever repeats expects what was live before, which is gone by now."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        put_live(bench, second, first)
        before = bench.state()
        assert promote(bench, second, first).live == second.id
        if able(bench).readback:
            assert bench.state() == before
        assert bench.consumed() == secret_of(second)

    def test_rolling_back_is_promoting_the_old_version(self, bench: Bench) -> None:
        """Also after the cleanup, and forward again after that."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        put_live(bench, second, first)
        bench.destination.cleanup(bench.call(), [])
        assert promote(bench, first, second).live == first.id
        bench.settle()
        assert verify(bench, first) is State.OK
        assert bench.consumed() == secret_of(first)
        assert promote(bench, second, first).live == second.id
        bench.settle()
        assert bench.consumed() == secret_of(second)

    def test_a_foreign_value_is_a_conflict_and_stays(self, bench: Bench) -> None:
        """Somebody edited the place by hand; their value is not ours to replace."""
        needs_foreign(bench)
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        bench.destination.stage(bench.call(), second)
        bench.overwrite()
        foreign, before = bench.consumed(), bench.state()
        for version, expect in ((second, first), (first, None), (first, second), (second, None)):
            with pytest.raises(Conflict):
                promote(bench, version, expect)
        assert bench.state() == before
        assert bench.consumed() == foreign != secret_of(first)
        assert (observe(bench).live, observe(bench).is_foreign) == (None, True)
        assert verify(bench, first) is State.BAD

    def test_a_foreign_value_that_was_there_before_us_stays(self, bench: Bench) -> None:
        """The first version meets what a person typed; it takes no place that is taken."""
        needs_foreign(bench)
        bench.overwrite()
        before, first = bench.state(), make_version()
        with pytest.raises(Conflict):
            promote(bench, first)
        assert bench.state() == before
        assert observe(bench).is_foreign
        with pytest.raises(Conflict):
            bench.destination.remove(bench.call(), first.id)
        assert bench.state() == before

    def test_a_wrong_expectation_is_a_conflict(self, bench: Bench) -> None:
        """A late worker knows an older truth; what is live stays."""
        needs_foreign(bench)
        first, second, third = make_version(1), make_version(2), make_version(3)
        before = bench.state()
        with pytest.raises(Conflict):
            promote(bench, second, first)
        assert bench.state() == before
        put_live(bench, first)
        put_live(bench, second, first)
        before = bench.state()
        for expect in (first, None, make_version(9)):
            with pytest.raises(Conflict):
                promote(bench, third, expect)
        assert bench.state() == before
        assert bench.consumed() == secret_of(second)

    def test_of_two_promotions_at_once_one_wins(self, bench: Bench) -> None:
        """Both saw the same version live; the destination itself lets one of them through."""
        if not able(bench).cas:
            pytest.skip("this destination does not compare by itself")
        first, rivals = make_version(1), [make_version(2), make_version(3)]
        put_live(bench, first)
        start, won = Barrier(len(rivals)), list[Version]()
        threads = [
            Thread(target=race, args=(bench, one, first), kwargs={"start": start, "won": won})
            for one in rivals
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [version.id for version in won] == [observe(bench).live]
        assert bench.consumed() == secret_of(won[0])

    def test_no_public_part_holds_a_secret(self, bench: Bench) -> None:
        """What is listed, printed or told of a state shows no value."""
        first, second = make_version(1), make_version(2)
        found = put_live(bench, first)
        bench.destination.stage(bench.call(), second)
        health = bench.destination.verify(bench.call(), first)
        shown = repr([first, second, found, observe(bench), health, able(bench), bench.call()])
        shown += repr([bench.destination, bench.destination.check(bench.call())])
        found_in = [trace for trace in traces_of(bench, first, second) if trace in shown.encode()]
        assert not found_in

    def test_cleanup_keeps_what_it_is_told(self, bench: Bench) -> None:
        """And what is live, always; a second time there is nothing to do."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        bench.destination.stage(bench.call(), second)
        before = bench.state()
        bench.destination.cleanup(bench.call(), [second.id])
        assert bench.state() == before
        bench.destination.cleanup(bench.call(), [])
        bench.destination.cleanup(bench.call(), [])
        assert observe(bench).staged == ()
        assert observe(bench).live == first.id
        assert bench.consumed() == secret_of(first)
        assert put_live(bench, second, first).live == second.id

    def test_remove_takes_our_value_away_and_twice_is_fine(self, bench: Bench) -> None:
        """An absent value counts as removed; the place can be used again."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        bench.destination.remove(bench.call(), first.id)
        assert bench.consumed() is None
        assert observe(bench).live is None
        bench.destination.remove(bench.call(), first.id)
        assert put_live(bench, second).live == second.id
        assert bench.consumed() == secret_of(second)

    def test_remove_leaves_what_is_not_the_version_it_names(self, bench: Bench) -> None:
        """Another version of ours is a Conflict, and so is a foreign value."""
        needs_foreign(bench)
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        put_live(bench, second, first)
        for is_foreign in (False, True):
            if is_foreign:
                bench.overwrite()
            before = bench.state()
            with pytest.raises(Conflict):
                bench.destination.remove(bench.call(), first.id)
            assert bench.state() == before
        with pytest.raises(Conflict):
            bench.destination.remove(bench.call(), second.id)

    def test_reads_change_nothing(self, bench: Bench) -> None:
        """Check, observe, verify and capabilities, of live, staged and unknown versions."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        bench.destination.stage(bench.call(), second)
        before = bench.state()
        bench.destination.check(bench.call())
        observe(bench)
        for version in (first, second, make_version(3)):
            verify(bench, version)
        assert able(bench) == able(bench)
        assert bench.state() == before

    def test_a_check_without_a_place_is_about_the_account_alone(self, bench: Bench) -> None:
        """A Connection is checked before anything is pushed there."""
        account = replace(cast("Call", bench.call()), options={})
        assert bench.destination.check(account) == []

    def test_its_forms_are_sound(self, bench: Bench) -> None:
        """One name for one field, a kind that fits a column, and secrets among the material only."""
        plugin = bench.destination
        assert KIND.fullmatch(plugin.kind)
        assert plugin.title
        plain = [*plugin.config_schema, *plugin.target_schema]
        for fields in (plugin.config_schema, plugin.target_schema, plugin.material_schema):
            assert len({field.name for field in fields}) == len(fields)
        assert not [field.name for field in plain if field.kind == "secret"]
        assert all(field.kind == "secret" for field in plugin.material_schema)
