"""What pytest keeps of a test's log: its records, with the exceptions and arguments that were logged."""

from __future__ import annotations

import copy
import logging
from typing import Any, Final

import pytest

from pytest_httpleak.asking import attribute, is_a

_PLAIN: Final = (str, bytes, int, float, type(None))


def lighten_records(item: pytest.Item) -> None:
    """Let pytest keep no more of a test's log than the text; lists of records that others have stay as they are.

    A logged traceback keeps the variables of functions that have returned, as if somebody still had them.
    """
    try:
        from _pytest.logging import caplog_handler_key, caplog_records_key
    except ImportError:  # some other pytest
        return
    phases: dict[str, list[Any]] = item.stash.get(caplog_records_key, {})
    light: dict[int, list[Any]] = {}  # by the list that it takes the place of, which a handler and a phase may share
    for phase, records in list(phases.items()):
        phases[phase] = _lightened(records, light)
    plugin = item.config.pluginmanager.get_plugin("logging-plugin")
    handlers = (item.stash.get(caplog_handler_key, None), attribute(plugin, "report_handler"))
    handler: Any
    for handler in handlers:
        if isinstance(attribute(handler, "records"), list):
            handler.records = _lightened(handler.records, light)


def _lightened(records: list[Any], light: dict[int, list[Any]]) -> list[Any]:
    """A list of the same records in words; the same list where there is nothing to be left out."""
    if id(records) not in light:
        light[id(records)] = records if all(map(_is_light, records)) else [*map(_in_words, records)]
    return light[id(records)]


def _is_light(record: Any) -> bool:
    return all(map(_is_plain, vars(record).values()))


def _is_plain(value: Any) -> bool:
    return is_a(value, _PLAIN) or (type(value) is tuple and not value)


def _in_words(record: Any) -> Any:
    if _is_light(record):
        return record
    try:
        words = copy.copy(record)
    except Exception:  # noqa: BLE001  # a class of somebody's own
        return record
    try:
        words.msg = record.getMessage()
        if record.exc_info and not record.exc_text:
            words.exc_text = logging.Formatter().formatException(record.exc_info)
    except Exception:  # noqa: BLE001  # arguments that do not suit, or somebody's `__str__`: logging has said so already
        words.msg = str(attribute(record, "name"))
    words.args, words.exc_info = (), None
    for name, value in list(vars(words).items()):
        if not _is_plain(value):
            delattr(words, name)  # of `extra`
    return words
