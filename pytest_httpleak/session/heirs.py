"""Descriptors that SQLite keeps of a connection that is over, and uses for the next one with the same file.

Whether the earlier connection is over takes a look at the whole heap: one for all that an owner has connected, when it is judged.
"""

from __future__ import annotations

from pytest_httpleak.databases import is_over, living
from pytest_httpleak.opennumbers import identity_of_file
from pytest_httpleak.ownership import Watch
from pytest_httpleak.records import Address
from pytest_httpleak.socketrecords import Identity


def hand_over(watch: Watch) -> None:
    """Let kept descriptors of connections that are over belong to the connections that have taken them over since.

    So, too, the second descriptor of a connection: where several were made at the same time, one of them was told of all that
    was opened meanwhile.
    """
    heirs, watch.heirs = watch.heirs, {}
    kept = {
        fd: (which, place)
        for fd, (which, place) in list(watch.holders.items())
        if isinstance(place, Address) and identity_of_file(fd) == which
    }
    found = living({*heirs, *(place.key for _, place in kept.values())})
    alive = {key for key, connection in found.items() if not is_over(connection)}
    with_one = {(identity, place.key) for identity, place in kept.values() if place.key in alive}
    settled: set[tuple[Identity | None, int]] = set()
    for fd, (identity, earlier) in kept.items():
        if earlier.key in alive and (identity, earlier.key) not in settled:
            settled.add((identity, earlier.key))
            continue
        for address, (of, place, birth, owner) in reversed(list(heirs.items())):
            heir = found.get(address) if isinstance(place, Address) else place()
            if of == identity and not is_over(heir) and (identity, address) not in with_one:
                watch.fds[fd] = birth, owner, identity
                watch.holders[fd] = identity, place
                owner.descriptors += 1
                del heirs[address]
                break
