"""What pytest keeps of a test's log: its records, with the exceptions and arguments that were logged."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_httpleak.asking import attribute


def forget_records(item: pytest.Item) -> None:
    """Let pytest keep no record of a test's log any more; the text of its reports stays, and so do lists that others have.

    A logged traceback keeps the variables of functions that have returned, as if somebody still had them.
    """
    try:
        from _pytest.logging import caplog_handler_key, caplog_records_key
    except ImportError:  # some other pytest
        return
    phases: dict[str, list[Any]] = item.stash.get(caplog_records_key, {})
    for phase in phases:
        phases[phase] = []
    plugin = item.config.pluginmanager.get_plugin("logging-plugin")
    handlers = (item.stash.get(caplog_handler_key, None), attribute(plugin, "report_handler"))
    handler: Any
    for handler in handlers:
        if isinstance(attribute(handler, "records"), list):
            handler.records = []
