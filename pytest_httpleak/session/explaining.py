"""What a leak's words say beside its name: what refers to it, what a thread is doing, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pytest_httpleak import hints
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import DOING, Suspect
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.probes import references
from pytest_httpleak.records import Record
from pytest_httpleak.session.keeping import Questions, is_idle_worker, resource_of

_NOT_KNOWN: Final = "not known: there are too many objects to search, which is why this is only a warning"


def explained(
    found: list[Suspect], records: dict[int, Record], unsure: set[int], note: Callable[[Exception], None]
) -> list[Suspect]:
    """The same with all their words; what holds those whose keys are `unsure` there was no time to look for.

    `note` is told of errors of our own.
    """
    questions = Questions()
    return [_explained(suspect, records, questions, note, is_sure=suspect.key not in unsure) for suspect in found]


def _explained(
    suspect: Suspect,
    records: dict[int, Record],
    questions: Questions,
    note: Callable[[Exception], None],
    *,
    is_sure: bool,
) -> Suspect:
    """The same with what refers to it and how to mend it, which no error may make a leak less."""
    held_by, hint, summary = suspect.held_by, suspect.hint, suspect.summary
    try:
        held_by = _held_by(suspect, records, questions) if is_sure else _NOT_KNOWN
        hint = hints.for_good(hints.hint(suspect, resource_of(suspect, records)), suspect, held_by)
        summary += _doing(suspect, records)
    except Exception as error:  # noqa: BLE001  # this is the wall
        note(error)
    return replace(suspect, held_by=held_by, hint=hint, summary=summary)


def _held_by(suspect: Suspect, records: dict[int, Record], questions: Questions) -> str | None:
    """What refers to a resource, in words."""
    if not questions.may_ask(suspect) or resource_of(suspect, records) is None:
        return None
    record = records[suspect.key]
    text = references.held_by(record.as_users_have_it())
    if text is None:
        return None
    questions.answered(suspect)
    return _at_place(text.replace(record.INSIDE, "", 1), record.place())


def _at_place(text: str, place: str) -> str:
    """The same with the place in what is kept, which in a test's instance comes before the name of its class."""
    attribute_of, of, instance = text.partition(" of ") if text.startswith("self") else (text, "", "")
    return attribute_of + place + of + instance


def _doing(suspect: Suspect, records: dict[int, Record]) -> str:
    """What a thread does at this moment, to be added to what it is."""
    if suspect.kind is not Kind.THREADS:
        return ""
    from pytest_httpleak.probes import running  # here, as a clean run has no suspect

    if is_idle_worker(records.get(suspect.key)):
        return f"{DOING}waiting for a job"
    idents = (claim[1] for claim in suspect.claims if isinstance(claim, tuple) and claim[0] == "thread")
    where = running.describe(next(idents, None))
    return f"{DOING}in {where}" if where else ""
