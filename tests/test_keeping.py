"""How often it is asked what keeps the resources of one line."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from pytest_httpleak.clocks import Real
from pytest_httpleak.model.findings import Site, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.session.keeping import Questions

MAKING = Site("test_a.py", 3, "test_making")


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let each question take so many seconds of processor time."""

    def let_it_take(seconds: float) -> None:
        ticks = itertools.count()
        monkeypatch.setattr(Real, "thread_time", lambda: next(ticks) * seconds)

    return let_it_take


def suspect(key: int, line: Site | None = MAKING) -> Suspect:
    return Suspect(
        kind=Kind.SOCKETS, library="socket", type="socket.socket", state=State.OPEN, summary="", key=key, created=line
    )


def asked(questions: Questions, number: int = 100, line: Site | None = MAKING) -> int:
    """How many of so many resources of a line may be asked about."""
    return sum(questions.may_ask(suspect(key, line)) for key in range(number))


@pytest.mark.parametrize(("seconds", "number"), [(0.0, 20), (0.1, 10), (0.9, 4), (30.0, 4)])
def test_the_longer_the_questions_take_the_fewer_are_asked_and_a_few_in_any_case(
    take: Callable[[float], None], seconds: float, number: int
) -> None:
    take(seconds)
    assert asked(Questions()) == number


def test_another_line_is_asked_about_as_the_first(take: Callable[[float], None]) -> None:
    take(30.0)
    questions = Questions()
    assert [asked(questions), asked(questions, line=Site("test_a.py", 4, "test_making"))] == [4, 4]


def test_a_line_that_makes_what_is_kept_is_asked_about_again(take: Callable[[float], None]) -> None:
    take(0.1)
    questions = Questions()
    asked(questions)
    questions.start_again(suspect(1))
    assert asked(questions) == 10


def test_of_bare_descriptors_no_more_are_asked_about_for_that(take: Callable[[float], None]) -> None:
    take(0.1)
    questions = Questions()
    asked(questions)
    questions.start_again(suspect(-1))
    assert asked(questions) == 0
