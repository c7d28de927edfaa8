"""A label is an index, a letter, "(A)" or a text; what can mean two options is refused."""

from __future__ import annotations

from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.evaluation.choice.labels import LabelFault, right_options

CITIES = ("Rome", "Oslo", "Bern", "Kyiv")


@pytest.mark.parametrize("label", [2, "2", "C", "(C)", "c", "C.", "C)", "Bern", "bern", " Bern "])
def test_every_way_to_name_an_option(label: object) -> None:
    assert right_options(label, CITIES) == (2,)


def test_several_options_may_be_right() -> None:
    assert right_options(["D", "A", 0], CITIES) == (0, 3)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (4, "is not among the 4 options (4)"),
        (-1, "is not among the 4 options (-1)"),
        ("E", "is not among the 4 options ('E')"),
        ("Paris", "is not among the 4 options ('Paris')"),
        ("", "has no label"),
        (None, "has no label"),
        ([], "has no label"),
        (True, "is neither an index nor a letter nor an option's text (True)"),
        (1.0, "is neither an index nor a letter nor an option's text (1.0)"),
    ],
)
def test_what_names_no_option(label: object, said: str) -> None:
    with pytest.raises(LabelFault) as fault:
        right_options(label, CITIES)
    assert str(fault.value) == said


@pytest.mark.parametrize(("label", "options"), [("A", ("B", "A")), (1, ("1", "2"))])
def test_what_could_mean_two_options_is_refused(label: object, options: tuple[str, ...]) -> None:
    with pytest.raises(LabelFault, match=r"can be read in two ways .*write \(A\) or \(B\)"):
        right_options(label, options)


def test_options_beyond_z_are_named_by_what_they_are() -> None:
    options = (*ascii_uppercase, "[", "\\", "]", "^", "_", "`", "a", "b")
    assert right_options("a", options) == (32,)
    assert right_options(["[", "A"], options) == (0, 26)


@given(
    options=st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=2, max_size=8,
                     unique_by=lambda text: text.strip()),
    data=st.data(),
)  # fmt: skip
def test_a_label_means_the_option_it_was_made_of_or_is_refused(
    options: list[str], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(options) - 1))
    letter = ascii_uppercase[index]
    for label in (index, str(index), letter, f"({letter})", options[index]):
        assert meaning(label, options) in (index, None)


def meaning(label: object, options: list[str]) -> int | None:
    """None where it could mean two options."""
    try:
        return right_options(label, options)[0]
    except LabelFault as fault:
        if fault.kind != "can be read in two ways":
            raise
        return None
