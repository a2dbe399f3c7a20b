"""The audit notes of a test at its end; on the way of every test, so that those which few have are made elsewhere."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from pytest_httpleak.asking import attribute
from pytest_httpleak.clocks import Real
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner, Taken
from pytest_httpleak.ownership import Watch

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Site
    from pytest_httpleak.model.rows import AuditNote

# So many clients from one line within one test, each with a connection of its own to one server, are one for each request.
CLIENTS_FROM_ONE_LINE: Final = 5
# More failures from one line within one test, of one and the same request, are tries without a bound.
TRIES_FROM_ONE_LINE: Final = 20
# More tasks of one line that are there at once are started without a bound. To count them may cost so many seconds of processor
# time for each.
TASKS_FROM_ONE_LINE: Final = 100
_FOR_EACH: Final = 5e-6
# Different notes that are kept to be given again.
_MOST_KNOWN: Final = 4096
# Module, path of attributes, and what it is called: defaults that all code in the process shares.
GLOBALS: Final = (
    ("urllib.request", "_opener", "urllib.request's opener"),
    ("ssl", "_create_default_https_context", "ssl's default context for HTTPS"),
    ("requests.adapters", "DEFAULT_RETRIES", "requests.adapters.DEFAULT_RETRIES"),
    ("requests.adapters", "DEFAULT_POOLSIZE", "requests.adapters.DEFAULT_POOLSIZE"),
    ("urllib3.util.retry", "Retry.DEFAULT", "urllib3.Retry.DEFAULT"),
    ("urllib3.connection", "HTTPConnection.default_socket_options", "urllib3's default socket options"),
    ("http.client", "HTTPConnection.debuglevel", "http.client.HTTPConnection.debuglevel"),
)
_QUICKLY: Final = tuple((module, operator.attrgetter(path)) for module, path, _ in GLOBALS)

# Name, message, hint, and how often it was taken; between them its birth, or the identity of its site.
_Key = tuple[str, str, str, object, int]


class Auditing:
    """Takes each test's notes when it ends; `before` is what the shared defaults were after the test before it."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._before = shared_defaults()
        self._known: dict[_Key, AuditNote] = {}  # by what they say: tests of a suite have the same ones
        # Lines that had more tasks at once than should be, and whose they were.
        self._crowds: set[tuple[Owner, Site]] = set()
        self._counts = 0  # within this test; the first may cost what it does
        watch.ask_of_tasks = self._count_tasks
        self._wait_for_tasks()

    def _wait_for_tasks(self, births: int = TASKS_FROM_ONE_LINE + 1) -> None:
        """Let tasks be counted when so many more have been made: before that, there cannot be too many."""
        self._watch.asked_at = self._watch.births_of_tasks + births

    def _count_tasks(self) -> None:
        from pytest_httpleak.session import auditnotes  # here, as few tests make so many

        began = Real.thread_time()
        try:
            numbers = auditnotes.tasks_at_once(self._watch)
        except Exception as error:  # noqa: BLE001  # threads go on making some, or a loop is somebody's stand-in
            pass_on(error)
            self._wait_for_tasks()
            return
        self._crowds.update(place for place, number in numbers.items() if number > TASKS_FROM_ONE_LINE)
        most = max((number for place, number in numbers.items() if place not in self._crowds), default=0)
        cost = round((Real.thread_time() - began) / _FOR_EACH) if self._counts else 0
        self._counts += 1
        self._wait_for_tasks(max(TASKS_FROM_ONE_LINE + 1 - most, cost, 1))

    def accept(self) -> None:
        """Take the shared defaults as they are: a fixture of a wider scope has changed them, or put them back."""
        self._before = shared_defaults()

    def notes(self, owner: Owner, runs_examples: Callable[[], bool] = lambda: False) -> tuple[AuditNote, ...]:
        """The notes on what an owner did, each once with the number of times.

        What only `runs_examples` has done over and over says nothing of the code.
        """
        after = shared_defaults()
        is_changed = after != self._before
        made = owner.records
        has_many = len(made) >= CLIENTS_FROM_ONE_LINE and (
            len(made) > TRIES_FROM_ONE_LINE
            or sum(record.kind is Kind.CLIENTS for record in made) >= CLIENTS_FROM_ONE_LINE
        )
        has_tasks, self._counts = bool(self._crowds), 0
        self._wait_for_tasks()
        if not (is_changed or has_many or has_tasks):
            return self.counted(owner.notes) if owner.notes else ()
        from pytest_httpleak.session import auditnotes

        found: list[AuditNote] = []
        if is_changed:
            found += auditnotes.changed(self._before, after, self._watch.changes)
            self._before = after
        if has_many and not runs_examples():
            found += [*auditnotes.many_clients(made), *auditnotes.many_tries(made)]
        if has_tasks:
            crowds, self._crowds = self._crowds, set()
            found += () if runs_examples() else auditnotes.many_tasks(site for of, site in crowds if of is owner)
        return (*found, *self.counted(owner.notes))

    def counted(self, taken: Sequence[Taken]) -> tuple[AuditNote, ...]:
        """The notes that the adapters have taken, each once for each line."""
        if len(taken) == 1:  # as in nearly every test that has one
            (one,) = taken
            # By its birth first, which tests of one function share.
            key = (one.name, one.message, one.hint, one.birth, one.count)
            known = self._known.get(key)
            return (self._make(key, one.birth.site()) if known is None else known,)
        counts: dict[tuple[str, str, str, Site | None], int] = {}
        for each in taken:
            place = (each.name, each.message, each.hint, each.birth.site())
            counts[place] = counts.get(place, 0) + each.count
        return tuple([self._note(*place, number) for place, number in counts.items()])

    def _note(self, name: str, message: str, hint: str, created: Site | None, count: int) -> AuditNote:
        """The note that says so, which is made once."""
        key = (name, message, hint, id(created), count)  # the note keeps its site, so that this stands for no other
        known = self._known.get(key)
        return self._make(key, created) if known is None else known

    def _make(self, key: _Key, created: Site | None) -> AuditNote:
        """Make a note, and keep it to be given again."""
        from pytest_httpleak.model.rows import AuditNote  # here, as a run without notes needs none

        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        name, message, hint, _, count = key
        note = self._known[key] = AuditNote(name, message, hint, created, count)
        return note


def shared_defaults() -> tuple[Any, ...]:
    """The defaults that all code in the process shares, as they are now; those of a module not imported are None."""
    modules = sys.modules
    try:  # on the way of every test
        timeout = modules["socket"].getdefaulttimeout()
        return (
            timeout,
            *[None if (found := modules.get(module)) is None else value_of(found) for module, value_of in _QUICKLY],
        )
    except Exception:  # noqa: BLE001  # what a test has put there, with a `__getattr__` or without: asked with care
        timeout = attribute(modules.get("socket"), "getdefaulttimeout", None)
        return (None if timeout is None else timeout(), *[_default(module, path) for module, path, _ in GLOBALS])


def _default(module: str, path: str) -> Any:
    value: Any = sys.modules.get(module)
    for name in path.split("."):
        value = None if value is None else attribute(value, name, None)
    return value
