"""Sequences that begin alike become rows, each of which is evaluated once."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from openchat_local.models.engine.decoding.prefix_tree import Path, Plan


@st.composite
def scored(draw: st.DrawFn) -> Path:
    prompt = draw(st.lists(st.integers(0, 1), min_size=1, max_size=6))
    continuation = draw(st.lists(st.integers(0, 2), min_size=1, max_size=5))
    return path(prompt, continuation)


def path(prompt: Sequence[int], continuation: Sequence[int]) -> Path:
    return Path((*prompt, *continuation[:-1]), len(prompt) - 1, continuation)


def walk(
    paths: Sequence[Path], slots: int, cells: int, fresh: int, *, sharing: bool = True
) -> tuple[int, list[dict[int, tuple[list[int], int]]]]:
    """Do what the groups say to lists of tokens instead of a cache: how many rows that is, and
    for each path, by its targets' indices, the tokens before each and the target."""
    held: dict[int, list[int]] = {}
    seen: list[dict[int, tuple[list[int], int]]] = [{} for _ in paths]
    evaluated = 0
    for group in Plan(paths, sharing=sharing).groups(slots, cells, fresh):
        trunk = held.get(group.trunk, [])
        held = {slot: trunk[:length] for slot, length in group.kept}
        cached = {tuple(tokens[:n]) for tokens in held.values() for n in range(1, len(tokens) + 1)}
        for row in group.rows:
            for slot in row.slots:
                assert len(held.setdefault(slot, [])) == row.position
                held[slot].append(row.token)
            assert len({tuple(held[slot]) for slot in row.slots}) == 1
            for number, index in row.wanted:
                assert index not in seen[number]
                seen[number][index] = held[row.slots[0]].copy(), paths[number].targets[index]
        evaluated += len(group.rows)
        assert len(held) < slots or slots == 1 or not sharing
        longest = max(map(len, held.values()))
        assert len(cached) + len(group.rows) <= max(cells, longest)
        own = sum(row.slots[0] == group.rows[0].slots[0] for row in group.rows)
        assert len(group.rows) <= max(fresh, own)
    return evaluated, seen


@given(st.lists(scored(), max_size=12), st.integers(2, 5), st.integers(1, 30), st.integers(1, 30))
def test_every_target_is_judged_by_what_comes_before_it_and_no_row_is_evaluated_twice(
    paths: list[Path], slots: int, cells: int, fresh: int
) -> None:
    evaluated, seen = walk(paths, slots, cells, fresh)
    nodes = {tuple(p.ids[: n + 1]) for p in paths for n in range(len(p.ids))}
    assert evaluated == len(nodes)
    assert sum(len(p.ids) for p in paths) - sum(Plan(paths).shared) == len(nodes)
    for each, found in zip(paths, seen, strict=True):
        whole = [*each.ids, each.targets[-1]]
        ends = range(each.first + 1, len(whole))
        assert found == {i: (whole[:end], whole[end]) for i, end in enumerate(ends)}


@given(st.lists(scored(), max_size=6))
def test_without_sharing_every_path_is_evaluated_from_its_beginning(paths: list[Path]) -> None:
    evaluated, seen = walk(paths, 1, 1, 1, sharing=False)
    assert evaluated == sum(len(p.ids) for p in paths)
    assert [len(found) for found in seen] == [len(p.targets) for p in paths]


def test_options_of_one_token_are_all_read_off_the_row_of_the_prompt() -> None:
    paths = [path([5, 6, 7], [option]) for option in (1, 2, 3, 4)]
    (group,) = Plan(paths).groups(8, 64, 64)
    assert [row.token for row in group.rows] == [5, 6, 7]
    assert sorted(group.rows[-1].wanted) == [(0, 0), (1, 0), (2, 0), (3, 0)]
