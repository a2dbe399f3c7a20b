"""The audit notes that the end of a test gives: what it has changed for the process, and what it made over and over."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pytest_httpleak.model.findings import Site
from pytest_httpleak.model.rows import AuditNote
from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import tasks
from pytest_httpleak.records import Record
from pytest_httpleak.session.auditing import (
    CLIENTS_FROM_ONE_LINE,
    GLOBALS,
    TASKS_FROM_ONE_LINE,
    TRIES_FROM_ONE_LINE,
)
from pytest_httpleak.sites import Birth

# Answers that a client may try again after: the server is slow, or has too much to do, or has failed.
_TRY_AGAIN: Final = frozenset((408, 425, 429, *range(500, 600)))


def changed(before: tuple[Any, ...], after: tuple[Any, ...], changes: dict[str, Birth]) -> Iterator[AuditNote]:
    """A note for each shared default that is not what it was, save what came with an import, or at first use."""
    names = ("socket's default timeout", *(name for _, _, name in GLOBALS))
    for index, (name, old, new) in enumerate(zip(names, before, after, strict=True)):
        if new is old or new == old or (index > 0 and old is None and not _is_installed(new)):
            continue
        birth = changes.get(name)
        yield AuditNote(
            "global-default-changed",
            f"{name} was changed and not put back: all later tests run with it",
            "use the `monkeypatch` fixture, or put it back in a finalizer",
            None if birth is None else birth.site(),
        )


def _is_installed(opener: Any) -> bool:
    """Whether an opener of `urllib.request` is somebody's own, and not the one that `urlopen()` makes for itself."""
    request = sys.modules.get("urllib.request")
    if request is None or not isinstance(opener, request.OpenerDirector):
        return False
    stock = request.build_opener()
    kinds = [sorted(type(handler).__qualname__ for handler in each.handlers) for each in (opener, stock)]
    return kinds[0] != kinds[1] or opener.addheaders != stock.addheaders


def many_clients(records: Iterable[Record]) -> Iterator[AuditNote]:
    """A note for each line that made one client after the other, to connect to the same server."""
    clients: dict[tuple[Site, str], set[int]] = {}
    for record in records:
        client, origin = record.destination() or (None, "")
        site = (
            None if client is None or client.birth is None or client.owner is not record.owner else client.birth.site()
        )
        if site is not None:
            clients.setdefault((site, origin), set()).add(id(client))
    for (site, origin), made in clients.items():
        if len(made) >= CLIENTS_FROM_ONE_LINE:
            yield AuditNote(
                "client-per-request",
                f"{len(made)} clients were made by this line within one test, each for connections of its own to {origin}",
                "make one client, and share it: it keeps its connections for the next request",
                site,
            )


def many_tries(records: Iterable[Record]) -> Iterator[AuditNote]:
    """A note for each line that sent one and the same request over and over, and was told to come back later."""
    tries: Counter[tuple[Site, str]] = Counter()
    for record in records:
        request, status = record.exchange() or ("", None)
        site = None if record.birth is None or status not in _TRY_AGAIN else record.birth.site()
        if site is not None:
            tries[site, request] += 1
    for (site, request), number in tries.items():
        if number > TRIES_FROM_ONE_LINE:
            yield AuditNote(
                "unbounded-retry",
                f"this line tried {request} {number} times within one test: what bounds the number of tries?",
                "bound the tries, with a pause that grows between them",
                site,
            )


def tasks_at_once(watch: Watch) -> Counter[tuple[Owner, Site]]:
    """How many tasks of each owner's lines are pending, in all loops: their births are counted together, too."""
    known = [watch.tasks.get(id(task)) for loop in watch.open_loops() for task in tasks.all_of(loop)]
    return Counter((each[1], site) for each in known if each is not None and (site := each[0].site()) is not None)


def many_tasks(sites: Iterable[Site]) -> Iterator[AuditNote]:
    """A note for each line that started tasks by the hundred."""
    for site in sites:
        yield AuditNote(
            "unbounded-retry",
            f"more than {TASKS_FROM_ONE_LINE} tasks of this line were pending at once: what bounds their number?",
            "let a fixed number of workers, or a semaphore, bound them",
            site,
        )
