"""Records of facts: made like dataclasses, never changed, compared by value."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from pytest_httpleak.model.facts import Facts, replace


class Place(Facts):
    """A record with a default."""

    file: str
    line: int
    count: int = 1


class Other(Facts):
    """Another record with the same fields."""

    file: str
    line: int
    count: int = 1


HERE = Place("a.py", 3)


@pytest.mark.parametrize(
    "same", [Place("a.py", line=3), Place(line=3, file="a.py"), Place("a.py", 3, 1), Place("a.py", 3, count=1)], ids=str
)
def test_fields_are_given_by_place_or_by_name_and_defaults_left_out(same: Place) -> None:
    assert (same, hash(same), same.values()) == (HERE, hash(HERE), {"file": "a.py", "line": 3, "count": 1})


@pytest.mark.parametrize("other", [Place("a.py", 4), Place("b.py", 3), Other("a.py", 3), ("a.py", 3, 1)], ids=str)
def test_records_of_other_values_or_another_class_are_not_equal(other: object) -> None:
    assert other != HERE


@pytest.mark.parametrize(
    ("values", "named", "message"),
    [
        (("a.py",), {}, r"Place\(file, line, count\) was given 1 values and no names; it lacks line"),
        ((), {"count": 2}, "was given 0 values and count; it lacks file, line"),
        (("a.py", 3, 1, 2), {}, "was given 4 values and no names"),
        (("a.py", 3), {"line": 4}, "was given 2 values and line"),
        (("a.py", 3), {"column": 4}, "was given 2 values and column"),
    ],
)
def test_a_record_that_cannot_be_made_says_what_it_was_given(
    values: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        Place(*values, **named)


def test_a_changed_record_is_another_one() -> None:
    assert (replace(HERE, line=4), HERE) == (Place("a.py", 4), Place("a.py", 3))


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match=r"Place\.line cannot be set"):
        HERE.line = 4  # type: ignore[misc]  # on purpose
    with pytest.raises(AttributeError, match=r"Place\.line cannot be deleted"):
        del HERE.line


def test_a_record_shows_its_fields() -> None:
    assert repr(HERE) == "Place(file='a.py', line=3, count=1)"


@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, lambda record: pickle.loads(pickle.dumps(record))]
)  # our own
def test_a_record_survives_being_copied(way: Any) -> None:
    assert way(HERE) == HERE
