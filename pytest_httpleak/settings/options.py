"""The one table of everything that can be set: option, ini key, marker key, form, default and help of each."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import pytest

from pytest_httpleak.model.facts import Facts
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.settings import values
from pytest_httpleak.settings.values import Form

T = TypeVar("T")


class Option(Generic[T]):
    """One thing that can be set, and each place where it can be.

    `default` is written as a user would write it in the ini file; None means that there is none. `field` names the
    attribute of Settings that the value belongs to, and is empty for what concerns the run as a whole; `kind` is the
    key within that attribute where it holds a number for each kind. `is_list` is for ini values of one or more lines.
    """

    __slots__ = ("default", "field", "flag", "form", "help", "ini", "is_list", "key", "kind")

    def __init__(
        self,
        form: Form[T],
        help: str,  # noqa: A002  # as pytest calls it where it goes to
        *,
        flag: str | None = None,
        ini: str | None = None,
        key: str | None = None,
        default: str | None = None,
        field: str = "",
        kind: Kind | None = None,
        is_list: bool = False,
    ) -> None:
        self.form = form
        self.help = help
        self.flag = flag
        self.ini = ini
        self.key = key
        self.default = default
        self.field = field
        self.kind = kind
        self.is_list = is_list


class OptionRow(Facts):
    """One line of the reference: a name as users write it, where they write it, its default, what it does."""

    name: str
    where: str
    default: str
    help: str


MODE = Option(
    form=values.MODE,
    flag="--httpleak",
    ini="httpleak",
    help="check every test for leaked HTTP resources: a leak fails the test (fail), is reported (warn), or nothing is "
    "checked at all (off); unset, only tests with the marker or the fixture httpleak are checked",
)
TEST_MODE = Option(
    form=values.MODE,
    key="mode",
    field="mode",
    help="what a leak of this test does: fail it, warn, or off for not checking it",
)
REASON = Option(form=values.TEXT, key="reason", field="reason", help="why, for the report")
IGNORE = Option(
    form=values.PATTERNS,
    ini="httpleak_ignore",
    key="ignore",
    field="ignore",
    is_list=True,
    help="leaks that are someone else's: KIND:GLOB for the name of a resource (threads:worker-*), created:GLOB for "
    "the file that made it; lists add up",
)
GRACE = Option(
    form=values.SECONDS,
    flag="--httpleak-grace",
    ini="httpleak_grace",
    key="grace",
    field="grace",
    default="0.5",
    help="seconds to wait for what looks leaked to settle; a clean test never waits",
)
KINDS = Option(
    form=values.KINDS,
    flag="--httpleak-kinds",
    ini="httpleak_kinds",
    field="kinds",
    default=",".join(values.KIND_NAMES),
    is_list=True,
    help="watch only these kinds",
)
TOLERATE = Option(
    form=values.LIMITS,
    ini="httpleak_tolerate",
    is_list=True,
    help="leaks of each kind that a test may have (responses=1 threads=2); peak_KIND and max_clients are accepted too",
)
REPORT = Option(
    form=values.REPORTS,
    flag="--httpleak-report",
    ini="httpleak_report",
    is_list=True,
    help="write a report; may be given more than once; the suffix chooses the form: "
    + " ".join(values.REPORT_SUFFIXES),
)
BASELINE = Option(
    form=values.PATH,
    flag="--httpleak-baseline",
    ini="httpleak_baseline",
    help="leaks recorded in this file are reported as known and do not fail; new ones do",
)
UPDATE_BASELINE = Option(
    form=values.TRUTH,
    flag="--httpleak-update-baseline",
    default="false",
    help="write the baseline from this run",
)
CONFIRM = Option(
    form=values.COUNT,
    flag="--httpleak-confirm",
    ini="httpleak_confirm",
    default="0",
    help="run a leaking test again up to N times; only a leak that repeats fails it",
)
AUDIT = Option(
    form=values.AUDIT,
    ini="httpleak_audit",
    default="inform",
    is_list=True,
    help="notes on code that allows a leak in production: off, inform, fail, or the names of those that fail, of "
    + ", ".join(values.AUDIT_NAMES),
)
STRICT_TOLERANCES = Option(
    form=values.TRUTH,
    ini="httpleak_strict_tolerances",
    default="false",
    help="fail the run where a test leaks less than it tolerates, so that tolerances shrink with the leaks",
)
GITHUB = Option(
    form=values.TRUTH,
    ini="httpleak_github",
    default="true",
    help="annotate leaks in GitHub's view of a change; only where GITHUB_ACTIONS is set in the environment",
)

TOLERANCES = tuple(
    Option(
        form=values.COUNT,
        key=kind.value,
        field="tolerate",
        kind=kind,
        help=f"how many leaked {kind.value} to tolerate, with all they hold",
    )
    for kind in Kind
)
PEAKS = tuple(
    Option(
        form=values.COUNT,
        ini=f"httpleak_peak_{kind.value}",
        key=f"peak_{kind.value}",
        field="peaks",
        kind=kind,
        help=f"how many {kind.value} may be open at once while a test runs",
    )
    for kind in values.PEAK_KINDS
)
MAX_CLIENTS = Option(
    form=values.COUNT,
    ini="httpleak_max_clients",
    key="max_clients",
    field="max_clients",
    help="how many clients a test may make, closed ones too",
)

OPTIONS: tuple[Option[Any], ...] = (
    MODE,
    REPORT,
    BASELINE,
    UPDATE_BASELINE,
    CONFIRM,
    KINDS,
    TOLERATE,
    *TOLERANCES,
    IGNORE,
    TEST_MODE,
    REASON,
    GRACE,
    *PEAKS,
    MAX_CLIENTS,
    AUDIT,
    STRICT_TOLERANCES,
    GITHUB,
)
MARKER_KEYS: dict[str, Option[Any]] = {option.key: option for option in OPTIONS if option.key is not None}


def add_options(parser: pytest.Parser) -> None:
    """Declare every command-line option and ini key to pytest.

    Nothing has a default on the command line, so that None there means unset.
    """
    group = parser.getgroup("httpleak", "leaked HTTP resources (pytest-httpleak)")
    for option in OPTIONS:
        if option.flag is not None:
            group.addoption(option.flag, default=None, help=_help(option), **_argument(option))
        if option.ini is not None:
            parser.addini(option.ini, _help(option), type=_ini_type(option), default=option.default)


def option_table() -> list[OptionRow]:
    """List the reference: one row for each name and each place where it can be written."""
    rows = []
    for option in OPTIONS:
        default = option.default or ""
        if option.flag is not None:
            value = "" if option.form is values.TRUTH else f"={option.form.metavar}"
            rows.append(OptionRow(option.flag + value, "command line", default, option.help))
        if option.ini is not None:
            rows.append(OptionRow(option.ini, "ini file", default, option.help))
        if option.key is not None:
            rows.append(OptionRow(f"{option.key}={option.form.metavar}", "marker", default, option.help))
    return rows


def marker_help() -> str:
    """Word the line that `pytest --markers` shows for the marker."""
    keys = ", ".join(f"{key}={option.form.metavar}" for key, option in MARKER_KEYS.items())
    return (
        f"httpleak({keys}): check this test for leaked HTTP resources. KIND=N tolerates N leaks of a kind, peak_KIND=N "
        "and max_clients=N limit what is open or made while the test runs, ignore names leaks that are someone else's, "
        "grace is a time to settle in seconds, mode='off' leaves the test unchecked, reason says why. Marks on module, "
        "class and function merge: the closest wins key by key, ignore adds up."
    )


def _help(option: Option[Any]) -> str:
    return option.help if option.default is None else f"{option.help} (default: {option.default})"


def _argument(option: Option[Any]) -> dict[str, Any]:
    if option.form is values.TRUTH:
        return {"action": "store_true"}
    return {"action": "append" if option is REPORT else "store", "metavar": option.form.metavar}


def _ini_type(option: Option[Any]) -> Any:
    """Choose the type for pytest: text first, so that this package words the error, then what a TOML file may hold."""
    if option.is_list:
        return "linelist"
    # Unions came with pytest 9.2. Before, pytest would word the error for a number, and it does so without the place.
    if pytest.version_tuple >= (9, 2):
        return str | option.form.native
    return "bool" if option.form.native is bool else "string"
