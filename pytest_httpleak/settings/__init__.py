"""What users may set, on the command line, in the ini file and on a marker, and what comes of it."""

from __future__ import annotations

from pytest_httpleak.settings.merge import (
    RunSettings,
    Settings,
    default_settings,
    is_marked,
    settings_for,
    settings_from_keywords,
    with_later_marks,
)
from pytest_httpleak.settings.options import OptionRow, add_options, marker_help, option_table
from pytest_httpleak.settings.patterns import Pattern
from pytest_httpleak.settings.run import read_run_settings
from pytest_httpleak.settings.values import Mode

__all__ = [
    "Mode",
    "OptionRow",
    "Pattern",
    "RunSettings",
    "Settings",
    "add_options",
    "default_settings",
    "is_marked",
    "marker_help",
    "option_table",
    "read_run_settings",
    "settings_for",
    "settings_from_keywords",
    "with_later_marks",
]
