"""Descriptors that SQLite keeps of a connection that is over, and uses for the next one with the same file.

Whether the earlier connection is over takes a look at the whole heap: one for all that an owner has connected, when it is judged.
"""

from __future__ import annotations

from pytest_httpleak.databases import is_over, living
from pytest_httpleak.opennumbers import is_open
from pytest_httpleak.ownership import Watch
from pytest_httpleak.records import Address


def hand_over(watch: Watch) -> None:
    """Let kept descriptors of connections that are over belong to the connections that have taken them over since."""
    heirs, watch.heirs = watch.heirs, {}
    kept = {fd: (which, place) for fd, (which, place) in watch.holders.items() if isinstance(place, Address)}
    found = living({*heirs, *(place.key for _, place in kept.values())})
    for fd, (identity, earlier) in kept.items():
        if not is_over(found.get(earlier.key)) or not is_open(fd):
            continue
        for address, (of, place, birth, owner) in reversed(list(heirs.items())):
            heir = found.get(address) if isinstance(place, Address) else place()
            if of == identity and not is_over(heir):
                watch.fds[fd] = birth, owner, identity
                watch.holders[fd] = identity, place
                owner.descriptors += 1
                del heirs[address]
                break
