"""Suites in which warnings are errors, those of finalizers included: `filterwarnings = error`."""

import asyncio
import os
import select
from pathlib import Path

import pytest

from pytest_httpleak.looprecords import LoopRecord
from tests.inner import Inner

LOOP = """
import asyncio

def test_it():
    loop = asyncio.new_event_loop()
    {end}
"""


def _kinds(inner: Inner) -> list[str]:
    return [finding["kind"] for row in inner.report["tests"] for finding in row["findings"]]


@pytest.mark.parametrize(("end", "kinds"), [("del loop", ["loops"]), ("loop.close()", [])])
def test_a_loop_whose_finalizer_fails_answers_for_its_selector(inner: Inner, end: str, kinds: list[str]) -> None:
    inner.write(test_a=LOOP.replace("{end}", end))
    inner.run("-W", "error")
    assert _kinds(inner) == kinds


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="selectors have descriptors of another sort there")
def test_what_is_at_the_number_of_a_collected_loops_selector_is_the_loops_if_it_is_a_selector() -> None:
    record = LoopRecord(asyncio.SelectorEventLoop)
    record.collected = True
    with select.epoll() as poller, Path(os.devnull).open() as file:
        claims = [_claims(record, each.fileno()) for each in (poller, file)]
        number = poller.fileno()
    assert claims == [{("fd", number)}, set()]
    assert _claims(record, number) == set()


def _claims(record: LoopRecord, selector: int) -> frozenset[object]:
    record.selector = selector
    suspect = record.look()
    assert suspect is not None
    return suspect.claims


def test_what_a_collection_of_the_plugins_warns_of_does_not_show_the_plugins_code(inner: Inner) -> None:
    inner.write(
        test_a="""
import os

def test_first():  # what judges is imported, and importing collects, too
    global kept
    kept = open(os.devnull)

def test_it():
    loose = [open(os.devnull)]
    loose.append(loose)
"""
    )
    text = inner.run("-W", "error", "--tb=long").stdout.str()
    assert "unclosed file" in text
    assert "pytest_httpleak/" not in text
