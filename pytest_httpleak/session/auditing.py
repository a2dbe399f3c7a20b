"""Audit notes at the end of a test: what it changed for the whole process, and what it made over and over."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pytest_httpleak.model import AuditNote, Kind, Site
from pytest_httpleak.ownership import Owner
from pytest_httpleak.records import Record

# So many clients from one line within one test are a client for each request.
CLIENTS_FROM_ONE_LINE: Final = 5
# So many responses or tasks from one line within one test are a loop without a bound.
TRIES_FROM_ONE_LINE: Final = 20

# Module, path of attributes, and what it is called: defaults that all code in the process shares.
_GLOBALS: Final = (
    ("urllib.request", ("_opener",), "urllib.request's opener"),
    ("ssl", ("_create_default_https_context",), "ssl's default context for HTTPS"),
    ("requests.adapters", ("DEFAULT_RETRIES",), "requests.adapters.DEFAULT_RETRIES"),
    ("requests.adapters", ("DEFAULT_POOLSIZE",), "requests.adapters.DEFAULT_POOLSIZE"),
    ("urllib3.util.retry", ("Retry", "DEFAULT"), "urllib3.Retry.DEFAULT"),
    ("urllib3.connection", ("HTTPConnection", "default_socket_options"), "urllib3's default socket options"),
    ("http.client", ("HTTPConnection", "debuglevel"), "http.client.HTTPConnection.debuglevel"),
)


class Auditing:
    """Takes each test's notes when it ends; `before` is what the shared defaults were after the test before it."""

    def __init__(self) -> None:
        self._before = shared_defaults()

    def notes(self, owner: Owner) -> tuple[AuditNote, ...]:
        """The notes on what an owner did, each once with the number of times."""
        found: list[AuditNote] = []
        after = shared_defaults()
        if after != self._before:
            found += changed(self._before, after)
            self._before = after
        if len(owner.records) >= CLIENTS_FROM_ONE_LINE:
            found += repeated(owner.records)
        if owner.notes:
            counts = Counter((name, message, hint, birth.site()) for name, message, hint, birth in owner.notes)
            found += [AuditNote(*key, count=number) for key, number in counts.items()]
        return tuple(found)


def shared_defaults() -> tuple[Any, ...]:
    """The defaults that all code in the process shares, as they are now; those of a module not imported are None."""
    modules = sys.modules
    socket = modules.get("socket")
    values: list[Any] = [None if socket is None else socket.getdefaulttimeout()]
    for module, path, _ in _GLOBALS:
        value: Any = modules.get(module)
        if value is not None:
            for name in path:
                value = getattr(value, name, None)
        values.append(value)
    return tuple(values)


def changed(before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[AuditNote]:
    """A note for each shared default that is not what it was; one that came with an import is none."""
    names = ("socket's default timeout", *(name for _, _, name in _GLOBALS))
    for index, (name, old, new) in enumerate(zip(names, before, after, strict=True)):
        if new is not old and new != old and (index == 0 or old is not None or name.startswith("urllib.request")):
            yield AuditNote(
                "global-default-changed",
                f"{name} was changed and not put back: all later tests run with it",
                "use the `monkeypatch` fixture, or put it back in a finalizer",
            )


def repeated(records: Iterable[Record]) -> Iterator[AuditNote]:
    """A note for each line that made clients, or opened responses, over and over within one test."""
    sites: Counter[tuple[Kind, Site]] = Counter()
    for record in records:
        site = None if record.birth is None or record.inner else record.birth.site()
        if site is not None and record.kind in (Kind.CLIENTS, Kind.RESPONSES):
            sites[record.kind, site] += 1
    for (kind, site), number in sites.items():
        if kind is Kind.CLIENTS and number >= CLIENTS_FROM_ONE_LINE:
            yield AuditNote(
                "client-per-request",
                f"{number} clients were made by this line within one test: none of them reuses a connection",
                "make one client, and share it",
                site,
            )
        elif kind is Kind.RESPONSES and number > TRIES_FROM_ONE_LINE:
            yield AuditNote(
                "unbounded-retry",
                f"{number} responses were opened by this line within one test: what bounds the number of tries?",
                "bound the tries, with a pause that grows between them",
                site,
            )
