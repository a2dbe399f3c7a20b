"""Limits on how many may be open at once: each one that was exceeded is a finding of the state `peak`."""

from __future__ import annotations

from typing import Any, Final

from pytest_httpleak.model.findings import Finding, Held
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.owners import Owner
from pytest_httpleak.records import Record
from pytest_httpleak.settings import Settings


def breaches(owner: Owner, settings: Settings) -> list[Finding]:
    """The limits that were exceeded while the owner lived, as findings of the state `peak`."""
    if owner.peaks is None:
        return []
    peaks = owner.peaks
    found = [
        _breach(kind, limit, peaks.holders[kind])
        for kind, limit in settings.peaks.items()
        if kind in settings.kinds and peaks.highest(kind) > limit
    ]
    made = peaks.clients() if Kind.CLIENTS in settings.kinds else []
    if settings.max_clients is not None and len(made) > settings.max_clients:
        found.append(_breach(Kind.CLIENTS, settings.max_clients, made))
    return found


_LESS_AT_ONCE: Final = "limit what runs at once (a semaphore, a pool limit), or raise the limit in the marker"
_FEWER_CLIENTS: Final = "share one client instead of making one for each call, or raise the limit in the marker"


def _breach(kind: Kind, limit: int, holders: list[Record]) -> Finding:
    sites: dict[Any, int] = {}
    for record in holders:
        site = None if record.birth is None else record.birth.site()
        sites[site] = sites.get(site, 0) + 1
    last = holders[-1]
    what = "made" if kind is Kind.CLIENTS else "open at once"
    holds = tuple(
        Held(kind, f"{count} from " + ("an unknown line" if site is None else f"{site.file}:{site.line}"))
        for site, count in sorted(sites.items(), key=lambda item: -item[1])
    )
    return Finding(
        kind=kind,
        library=last.library,
        type=kind.value,
        state=State.PEAK,
        summary=f"{len(holders)} {kind.value} {what}, and the limit is {limit}",
        created=None if last.birth is None else last.birth.site(),
        stack=() if last.birth is None else last.birth.stack(),
        holds=holds,
        hint=_FEWER_CLIENTS if kind is Kind.CLIENTS else _LESS_AT_ONCE,
    )
