"""Descriptors that SQLite keeps of a connection that is over, and uses for the next one with the same file.

Whether the earlier connection is over takes a look at the whole heap: one for all that an owner has connected, when it is judged.
"""

from __future__ import annotations

from typing import Any

from pytest_httpleak.databases import is_over, living
from pytest_httpleak.descriptorowners import Heir
from pytest_httpleak.opennumbers import Identity, identity_of_file
from pytest_httpleak.ownership import Watch
from pytest_httpleak.weakrefs import Address


def hand_over(watch: Watch) -> None:
    """Let kept descriptors of connections that are over belong to the connections that have taken them over since.

    So, too, the second descriptor of a connection: where several were made at the same time, the one that was there first was
    told of all that was opened meanwhile. Which of its descriptors then counts as the first one is all the same.
    """
    heirs, watch.heirs = watch.heirs, {}
    kept = {
        fd: (which, place)
        for fd, (which, place) in list(watch.holders.items())
        if isinstance(place, Address) and identity_of_file(fd) == which
    }
    found = living({*heirs, *(place.key for _, place in kept.values())})
    alive = {key for key, connection in found.items() if not is_over(connection)}
    have_one: set[tuple[Identity | None, int]] = set()
    orphans: list[int] = []
    for fd, (identity, place) in kept.items():
        if place.key not in alive or (identity, place.key) in have_one:
            orphans.append(fd)
        else:
            have_one.add((identity, place.key))
    for fd in orphans:
        identity = kept[fd][0]
        heir = next((key for key in reversed(heirs) if _may_have(heirs[key], key, identity, found, have_one)), None)
        if heir is not None:
            _, reference, birth, owner = heirs.pop(heir)
            watch.fds[fd] = birth, owner, identity
            watch.holders[fd] = identity, reference
            owner.descriptors += 1


def _may_have(
    heir: Heir,
    key: int,
    identity: Identity | None,
    found: dict[int, Any],
    have_one: set[tuple[Identity | None, int]],
) -> bool:
    """Whether a connection is still there, is to that file, and has no descriptor of it yet."""
    of, reference, _, _ = heir
    connection = found.get(key) if isinstance(reference, Address) else reference()
    return of == identity and not is_over(connection) and (identity, key) not in have_one
