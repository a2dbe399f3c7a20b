"""The descriptors that are accounted for, and those that a test or fixture has added to them."""

from __future__ import annotations

from pytest_httpleak.model import Kind, State, Suspect
from pytest_httpleak.ownership import Owner, Watch
from pytest_httpleak.probes import descriptors


class Ledger:
    """What was open when the last owner was judged. Listing is for those that moved the gate: a count and the births."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._known: dict[int, descriptors.Identity] = {}
        self._count: int | None = None
        self._births = -1

    def open(self) -> None:
        """Take what is open now as accounted for."""
        self._known = descriptors.listing()
        self._count = descriptors.count()
        self._births = self._watch.births

    def has_moved(self) -> bool:
        """Whether anything may have been opened or closed since. Costs one `stat`, whatever is open."""
        return self._births != self._watch.births or self._count is None or descriptors.count() != self._count

    def unaccounted(self, owner: Owner) -> list[int]:
        """The descriptors that `owner` has opened and left open: by their births, else by a listing."""
        births = self._watch.fds
        found: set[int] = set()
        for fd, (_, of) in list(births.items()):
            if of is owner:
                if descriptors.identity(fd) is None:
                    births.pop(fd, None)
                elif not descriptors.is_socket(fd):
                    found.add(fd)
        if self._count is None or descriptors.count() != self._count:
            for fd, identity in descriptors.listing().items():
                known = self._known.get(fd)
                if known != identity and (fd not in births or births[fd][1] is owner):
                    found.add(fd)
        return sorted(found)

    def adopt(self, owner: Owner) -> None:
        """Let a fixture answer for the descriptors that appeared during its set-up without a birth of their own."""
        if not self.has_moved():
            return
        for fd in self.unaccounted(owner):
            self._watch.fds.setdefault(fd, (None, owner))
        self.open()

    def disown(self, fd: int) -> None:
        """Nobody answers for a descriptor any more: it has been reported, or is someone else's."""
        self._watch.fds[fd] = (None, self._watch.root)

    def suspects(self, owner: Owner, explained: set[int]) -> list[Suspect]:
        """What `owner` left open and nothing explains."""
        found = []
        for fd in self.unaccounted(owner):
            if fd in explained:
                continue
            birth, _ = self._watch.fds.get(fd, (None, owner))
            if birth is not None and birth.is_import():
                self.disown(fd)
                continue
            socket = descriptors.is_socket(fd)
            if socket and descriptors.is_server_side(fd):
                continue
            target = descriptors.target(fd)
            found.append(
                Suspect(
                    kind=Kind.SOCKETS if socket else Kind.FDS,
                    library="os",
                    type="socket" if socket else "file descriptor",
                    state=State.OPEN,
                    summary=f"fd {fd}: {target}",
                    key=-1 - fd,
                    created=None if birth is None else birth.site(),
                    stack=() if birth is None else birth.stack(),
                    names=(target, f"fd {fd}"),
                    claims=frozenset((("fd", fd),)),
                )
            )
        return found
