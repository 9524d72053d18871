"""Who gets which items: each has one result in the end, and slow and fast machines end together."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rack import Machine, Rack

from qwen_ref.cluster import portions
from qwen_ref.cluster.portions import AIM, DEATHS, Portion, Portions

SECONDS = st.sampled_from([0.01, 0.1, 1.0, 7.0])


def of(count: int, alone: bool = False, size: int = 1) -> Portions:
    return Portions((bytes(size) for _ in range(count)), count, alone)


@st.composite
def machines(draw: st.DrawFn) -> list[Machine]:
    """Any, which may die and come back; the last one lives."""
    times, away = st.floats(0, 60), st.floats(1, 60)
    some = [
        Machine(draw(SECONDS), draw(st.integers(1, 8)), draw(times), partial(float, draw(times)), draw(away))
        for _ in range(draw(st.integers(0, 6)))
    ]
    return [*some, Machine(draw(SECONDS), draw(st.integers(1, 8)), draw(times))]


@pytest.mark.hypothesis
@given(st.integers(0, 300), machines(), st.sets(st.integers(0, 20), max_size=2), st.booleans())
def test_each_item_has_one_result(count: int, some: list[Machine], deadly: set[int], alone: bool) -> None:
    """Or is lost with DEATHS machines, whatever dies and comes when."""
    more = [Machine(0.1, starts=100.0 + n) for n in range(2 * DEATHS)]
    rack = Rack(of(count, alone), 0.01, deadly.__contains__).run([*some, *more], until=1000.0)
    assert set(rack.results.values()) <= {1}
    assert {*rack.results} | {*rack.lost} == {*range(count)} and not {*rack.results} & {*rack.lost}
    assert {number for number in deadly if number < count} <= {*rack.lost}
    assert all(len({*workers}) == len(workers) == DEATHS for workers in rack.lost.values())
    assert rack.portions.done == count
    assert not alone or rack.longest <= 1


def test_a_server_and_a_small_machine_end_together() -> None:
    """And nobody waits long for the last ones."""
    rack = Rack(of(1000)).run([Machine(0.1), Machine(5.0)])
    ideal = 1000 / (1 / 0.1 + 1 / 5.0)
    assert ideal <= rack.now < 1.02 * ideal and rack.computed <= 1001
    assert rack.longest == int(AIM / 0.1)


def test_the_first_portion_is_what_goes_together() -> None:
    waiting = of(1000)
    waiting.join("a", 16)
    waiting.join("b")
    first = {waiting.take(0.0).worker: n for n in (16, 1)}  # type: ignore[union-attr]
    assert {name: len(worker.portion.items) for name, worker in waiting.workers.items()} == {"a": 16, "b": 1}  # type: ignore[union-attr]
    assert waiting.take(0.0) is None and len(first) == 2
    assert waiting.answered(waiting.workers["a"].portion, 160.0) == [*range(16)]  # type: ignore[arg-type]
    portion = waiting.take(160.0)  # an item takes as long as AIM: still as many as go together
    assert portion and portion.worker == "a" and len(portion.items) == 16


def test_a_deadly_item_ends_three_machines() -> None:
    """The others of its portion are not lost with it."""
    rack = Rack(of(200), deadly={5}.__contains__).run([Machine(0.1, 8) for _ in range(8)])
    assert [*rack.lost] == [5] and len(set(rack.lost[5])) == rack.deaths == DEATHS
    assert len(rack.results) == 199


def test_one_that_hangs_is_not_waited_for() -> None:
    rack = Rack(of(50)).run([Machine(0.1), Machine(1e9)], until=100.0)
    assert len(rack.results) == 50
    assert rack.now < 10 and rack.computed == 50


@pytest.mark.parametrize("fates", [*itertools.product(["dies", "hangs"], repeat=DEATHS)])
def test_an_item_is_tried_again_whatever_became_of_it(fates: tuple[str, ...]) -> None:
    """By DEATHS workers in all, of which any may answer: a result counts once, also where one that hung
    gives it at last."""
    waiting, hung = of(1), list[Portion]()

    def tried(name: str, now: float) -> Portion | None:
        waiting.join(name)
        return waiting.take(now)

    for n, fate in enumerate(fates[:-1]):
        portion = tried(f"{n}", 10.0 * n)
        assert portion and [*portion.items] == [0]
        if fate == "dies":
            waiting.leave(f"{n}")
        else:
            hung.append(portion)
    last = tried("last", 100.0)
    assert last and [*last.items] == [0] and tried("one more", 200.0) is None
    first, *others = [last, *hung] if fates[-1] == "dies" else [*hung, last]
    assert waiting.answered(first, 200.0) == [0] and waiting.over
    assert not any(waiting.answered(other, 200.0) for other in others) and waiting.done == 1


def test_what_ends_all_that_get_it_takes_nothing_with_it() -> None:
    """Whoever gets item 0 hangs, and then ends; what it had beside it is answered by others."""
    waiting, now, seen = of(24), 0.0, dict[str, list[int]]()
    for name in "abcdef":
        waiting.join(name, 4)
    while not waiting.over:
        while portion := waiting.take(now):
            seen[portion.worker] = [*portion.items]
        now += 1.0
        for name, worker in [*waiting.workers.items()]:
            if worker.portion and 0 not in worker.portion.items:
                waiting.answered(worker.portion, now)
            elif worker.portion and now > 60:
                waiting.leave(name)
    assert [*waiting.lost] == [0] and len(waiting.lost[0]) == DEATHS and waiting.done == 24
    assert seen[waiting.lost[0][-1]] == [0] and waiting.workers


def test_what_ends_last_is_repeated_if_that_is_sooner() -> None:
    waiting = Portions((b"" for _ in range(6)), 1000)
    for name, together, seconds in ("a", 2, 40.0), ("b", 3, 30.0), ("c", 1, 85.0):  # they end at 80, 90, 85
        waiting.join(name, together)
        assert waiting.take(0.0)
        waiting.workers[name].seconds = seconds
    waiting.join("d")
    waiting.workers["d"].seconds = 27.0  # all three of b's at 91
    assert waiting.take(10.0) is None
    waiting.workers["d"].seconds = 26.0
    again = waiting.take(10.0)
    assert again and [*again.items] == [2, 3, 4]


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_two_that_have_an_item_the_sooner_one_counts(order: str) -> None:
    """A third gets it where that one is late, too."""
    waiting = of(1)
    for name, seconds, now in ("a", 100.0, 0.0), ("b", 1.0, 20.0):
        waiting.join(name)
        waiting.workers[name].seconds = seconds
        assert waiting.take(now)
    waiting.workers = {name: waiting.workers[name] for name in order}
    waiting.join("c")
    waiting.workers["c"].seconds = 1.0
    assert waiting.take(20.0) is waiting.take(20.9) is None
    third = waiting.take(22.5)
    assert third and third.worker == "c"


def test_a_result_of_one_that_counts_as_gone_is_not_taken() -> None:
    waiting = of(1)
    waiting.join("a")
    late = waiting.take(0.0)
    waiting.leave("a")
    waiting.join("a")
    again = waiting.take(1.0)
    assert late and again and waiting.answered(late, 2.0) == [] and not waiting.over
    assert waiting.answered(again, 2.0) == [0] and waiting.over


def test_large_items_wait_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "LARGEST", 100)
    waiting = of(100, size=40)
    waiting.join("a", 8)
    portion = waiting.take(0.0)
    assert portion and [*portion.items] == [0, 1]
    waiting.answered(portion, 1.0)
    assert [*waiting.take(1.0).items] == [2, 3]  # type: ignore[union-attr]
    large = of(1, size=101)
    large.join("a")
    assert large.take(0.0)


@pytest.mark.parametrize("told", [0, 3, 10])
def test_a_total_that_is_wrong_ends_all_the_same(told: int) -> None:
    rack = Rack(Portions((b"" for _ in range(5)), told)).run([Machine(1.0)])
    assert sorted(rack.results) == [*range(5)]


def test_the_fastest_first_and_less_towards_the_end() -> None:
    waiting = of(100)
    seconds = {"slow": 2.0, "fast": 0.1}
    for name in seconds:
        waiting.join(name)
    for first in [waiting.take(0.0), waiting.take(0.0)]:
        assert first and waiting.answered(first, seconds[first.worker])
    portion = waiting.take(3.0)
    assert portion and portion.worker == "fast"
    assert len(portion.items) == int(98 * (1 / 0.1) / (1 / 0.1 + 1 / 2.0) / 2)
