"""The alarm that limits a test's time, while the plugin is at work."""

from __future__ import annotations

import queue

import pytest

from pytest_httpleak import interruptions
from pytest_httpleak.interruptions import LimitPutOff
from pytest_httpleak.session.core import Session
from pytest_httpleak.timers import Timer


class Alarm:
    """Stands in for the timer of the system: seconds that are left, and the interval."""

    def __init__(self, left: float, interval: float = 0.0) -> None:
        self.set = (left, interval)

    def get(self, _: int) -> tuple[float, float]:
        return self.set

    def put(self, _: int, left: float, interval: float) -> None:
        self.set = (left, interval)


@pytest.fixture
def alarm(monkeypatch: pytest.MonkeyPatch) -> Alarm:
    alarm = Alarm(3.0, 7.0)
    monkeypatch.setattr(interruptions, "_getitimer", alarm.get)
    monkeypatch.setattr(interruptions, "_setitimer", alarm.put)
    return alarm


def test_it_is_put_off_by_the_grace_and_ten_seconds(alarm: Alarm) -> None:
    with LimitPutOff(2.0):
        assert alarm.set == (15.0, 7.0)


def test_what_was_left_is_left_afterwards(alarm: Alarm) -> None:
    with LimitPutOff(2.0):
        alarm.set = (14.0, 7.0)  # a second has passed
    assert alarm.set == (3.0, 7.0)


def test_so_it_is_in_one_block_within_another(alarm: Alarm) -> None:
    with LimitPutOff(0), LimitPutOff(0):
        assert alarm.set == (23.0, 7.0)
    assert alarm.set == (3.0, 7.0)


def test_a_quarter_of_a_second_is_left_at_least(alarm: Alarm) -> None:
    alarm.set = (0.001, 0.0)
    with LimitPutOff(2.0):
        pass
    assert alarm.set == (0.25, 0.0)


def test_one_that_has_gone_off_or_was_cancelled_is_not_set_again(alarm: Alarm) -> None:
    with LimitPutOff(2.0):
        alarm.set = (0.0, 0.0)
    assert alarm.set == (0.0, 0.0)


def test_one_that_was_set_meanwhile_stays_as_it_is(alarm: Alarm) -> None:
    alarm.set = (0.0, 0.0)
    with LimitPutOff(2.0):
        alarm.set = (5.0, 0.0)
    assert alarm.set == (5.0, 0.0)


def test_where_the_system_has_none_nothing_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruptions, "_getitimer", None)
    monkeypatch.setattr(interruptions, "_setitimer", None)
    with LimitPutOff(2.0):
        pass


class TimedOut(Exception):
    """What a thread that watches the time raises in another one."""


@pytest.mark.parametrize(
    ("error", "is_thrown_in"),
    [
        (TimedOut(), True),
        (TimeoutError(), True),
        (TimedOut("after a second"), False),
        (RuntimeError(), False),
        (AttributeError("no such attribute"), False),
        (MemoryError(), False),
        (StopIteration(), False),
        (queue.Empty(), False),
    ],
    ids=repr,
)
def test_what_is_thrown_in_is_told_from_what_goes_wrong(error: Exception, *, is_thrown_in: bool) -> None:
    for file, is_ours in ((interruptions.__file__, True), (__file__, False)):
        try:
            exec(compile("raise error", file, "exec"), {"error": error})
        except Exception as raised:  # noqa: BLE001
            frames = interruptions.frames_of(raised)[-1:]
        assert interruptions.is_thrown_in(error, frames) is (is_thrown_in and is_ours)
        error.__traceback__ = None


class Limit:
    """Of the time of a test: the seconds that it was begun with, each time."""

    def __init__(self, seconds: float) -> None:
        self.session = Session(rootdir="")
        self.begun: list[float] = []
        self.session.timer = self.timer = Timer(self.session, seconds, self._begin)

    def _begin(self, seconds: float) -> None:
        self.begun.append(round(seconds, 1))


def test_a_timer_is_put_off_and_back_as_an_alarm_is() -> None:
    limit = Limit(60)
    with LimitPutOff(2.0, limit.timer):
        assert limit.begun == [72]
    assert limit.begun == [72, 60]


def test_a_quarter_of_a_second_is_left_of_a_timer_too() -> None:
    limit = Limit(0)
    with LimitPutOff(2.0, limit.timer):
        pass
    assert limit.begun[1] == 0.2


def test_a_timer_that_was_lifted_meanwhile_is_not_set_again() -> None:
    limit = Limit(60)
    with LimitPutOff(2.0, limit.timer):
        limit.session.timer = None
    assert limit.begun == [72]


def test_one_that_cannot_be_set_again_is_an_error_of_the_plugins_own() -> None:
    def fail(_: float) -> None:
        raise RuntimeError("can't start new thread")

    limit = Limit(60)
    with LimitPutOff(2.0, Timer(limit.session, 60, fail)):
        pass
    assert "can't start new thread" in str(limit.session.errors())
