"""Who answers for a bare descriptor: its birth and owner by its number, and through what it is used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pytest_httpleak.answering import Answering
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.opennumbers import native
from pytest_httpleak.owners import Owner
from pytest_httpleak.sites import Birth, capture
from pytest_httpleak.weakrefs import Address, reference, reference_to_holder

_fstat, _get_ident = native.fstat, threading.get_ident

# A connection to a database that may have taken over a descriptor: of which file, and its own birth and owner.
Heir = tuple[tuple[int, int] | None, Callable[[], Any] | Address, Birth, Owner]
# The identity of a descriptor, which tells it from a later one of its number, and a reference that keeps nothing alive.
Holder = tuple[tuple[int, int] | None, Callable[[], Any] | Address]
# A number, what was known of the descriptor that had it when that was doubled, and through what that was used.
Copy = tuple[int, tuple[Birth | None, Owner, tuple[int, int] | None] | None, Holder | None]


class DescriptorOwners(Answering):
    """The births and owners of bare descriptors, each known with its identity since numbers are used again."""

    def __init__(self) -> None:
        super().__init__()
        self.births = 0  # of all but responses, which hold what others have opened
        self.fds: dict[int, tuple[Birth | None, Owner, tuple[int, int] | None]] = {}
        self.copies: dict[int, Copy] = {}  # by their numbers, of descriptors that were doubled
        self.holders: dict[int, Holder] = {}  # by descriptor: the object through which it is used, where there is one
        # Connections to databases that have opened nothing, by address: of a file of which a descriptor was kept.
        self.heirs: dict[int, Heir] = {}
        # Descriptors of maps which are kept beside the one that is mapped: their birth, that one, and its birth.
        self.maps: dict[int, tuple[Birth, int, Birth]] = {}

    def descriptor_made(self, fd: int, depth: int = 5, holder: object = None) -> None:
        """Note the birth and the owner of a bare descriptor, and its identity, since numbers are used again.

        `holder` is the object that its maker was given in its place: a file, a connection to a database.
        """
        if self.making and _get_ident() in self.making:
            return
        birth, owner = self._of_descriptor(depth + 1)
        self.copies.pop(fd, None)
        self.holders.pop(fd, None)  # of an earlier descriptor, maybe to the same file: before another thread asks
        self.give(fd, birth, owner)
        if holder is not None:
            self.hold(fd, holder)
        self.births += 1

    def _of_descriptor(self, depth: int) -> tuple[Birth, Owner]:
        if self.running_loop() is None and self._is_plain():
            birth, owner = capture(depth - 1), self.stack[-1]
        else:
            birth, owner = self.birth(depth), self._answering()
        if owner.over or (not birth.frames and birth.parent is None):  # the latter is the test runner's own
            owner = self.root
        return birth, owner

    def may_take_over(self, identity: tuple[int, int] | None, address: int, holder: object, depth: int = 5) -> None:
        """Note a connection that may use a descriptor which was kept of an earlier one; which one, is seen later."""
        birth, owner = self._of_descriptor(depth + 1)
        self.heirs[address] = identity, reference(holder), birth, owner
        self.births += 1

    def copy_made(self, fd: int, source: int) -> None:
        """Note the birth of a descriptor that is another one's double, and whose that is: it may be kept to be put back."""
        self.descriptor_made(fd, 6)
        self.copies[fd] = source, self.fds.get(source), self.holders.get(source)

    def put_back(self, fd: int, copy: int) -> bool:
        """Where a copy was made of what had the number `fd`, that has it again; whose it was, answers for it."""
        source, known, holder = self.copies.get(copy, (None, None, None))
        if source != fd:
            return False
        self.fds.pop(fd, None)
        self.holders.pop(fd, None)
        if known is not None:
            self.fds[fd] = known
        if holder is not None:
            self.holders[fd] = holder
        return True

    def hold(self, fd: int, holder: object) -> None:
        """Note, without keeping it alive, the object through which a known descriptor is used."""
        known = self.fds.get(fd)
        if known is not None:
            self.holders[fd] = known[2], reference_to_holder(holder)

    def give(self, fd: int, birth: Birth | None, owner: Owner) -> None:
        """Let `owner` answer for a bare descriptor, as long as it is the one that is open now.

        Without a birth, it is none of whoever had an earlier one with its number.
        """
        try:
            status = _fstat(fd)
        except OSError as error:
            pass_on(error)
            return
        if birth is None:
            self.holders.pop(fd, None)
        self.fds[fd] = (birth, owner, (status.st_dev, status.st_ino))
        owner.descriptors += 1
