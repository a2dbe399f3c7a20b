"""Facts about what was left behind: suspects, and the findings that they amount to."""

from __future__ import annotations

import hashlib
import re
from typing import Final, Self

from pytest_httpleak.model.facts import Facts, replace
from pytest_httpleak.model.kinds import Kind, Outcome, State, Verdict


class Site(Facts):
    """One place in source code; `file` is absolute or as the interpreter names it."""

    file: str
    line: int
    function: str


class Held(Facts):
    """Something that a leaked resource keeps alive: shown under it, never a finding of its own."""

    kind: Kind
    summary: str
    fd: int | None = None

    @classmethod
    def more(cls, kind: Kind, number: int) -> Self:
        """What stands for so many more."""
        return cls(kind, f"and {number} more")

    @property
    def number(self) -> int:
        """How many things it stands for."""
        match = _MORE.fullmatch(self.summary)
        return 1 if match is None else int(match[1])


_MORE: Final = re.compile(r"and (\d+) more")


class Suspect(Facts):
    """One resource that its owner left behind, as facts taken at once; no reference to the resource itself.

    `claims` names the descriptors and objects it answers for: a suspect of a later kind whose claims are all
    taken is no finding. `owns` names, by key, suspects that end with this one, whatever their kind. `always` is for
    suspects that are a finding of their own even where all is claimed. `names` are what
    ignore patterns are matched with; `key` identifies the record it was taken from; `depth` puts a client (0) before the
    transports and pools inside it.
    """

    kind: Kind
    library: str
    type: str
    state: State
    summary: str
    key: int
    created: Site | None = None
    stack: tuple[Site, ...] = ()
    names: tuple[str, ...] = ()
    claims: frozenset[object] = frozenset()
    owns: frozenset[int] = frozenset()
    always: bool = False
    holds: tuple[Held, ...] = ()
    depth: int = 0
    held_by: str | None = None
    hint: str = ""


class Finding(Facts):
    """One cause of a leak, as users see it: `count` resources that the same line left behind."""

    kind: Kind
    library: str
    type: str
    state: State
    summary: str
    created: Site | None = None
    stack: tuple[Site, ...] = ()
    count: int = 1  # of resources
    holds: tuple[Held, ...] = ()
    held_by: str | None = None
    hint: str = ""
    verdict: Verdict = Verdict.LEAKED
    fingerprint: str = ""

    def judged(self, verdict: Verdict) -> Finding:
        """The same finding with another verdict."""
        return replace(self, verdict=verdict)


ALSO = "; also "  # in a summary, before another type among what one line has left behind
OF_LIMIT = "-peak"  # ends the fingerprint of a breached limit


def fingerprint(finding: Finding, owner: str, file: str | None) -> str:
    """Names a finding across runs: kind, library, function and file of creation, owner; never a line number.

    A breached limit has a name of its own; the other states of one leak (open, collected) may vary from run to run.
    """
    function = finding.created.function if finding.created else ""
    name = digest(finding.kind.value, finding.library, file or "", function, owner)
    return name + OF_LIMIT if finding.state is State.PEAK else name


def digest(*parts: str) -> str:
    """What a fingerprint is made of its parts, among which may be names that cannot be encoded."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def owner_without_parameters(owner: str) -> str:
    """A test id without its parameters, which may be reordered or renamed: `test_a.py::test_get[x-1]` is `test_get`."""
    file, separator, name = owner.partition("::")
    return file + separator + name.partition("[")[0]


DOING = ", now "  # in a summary, before what a thread is doing at that moment


def steady(summary: str) -> str:
    """The summary without what a thread is doing, which may be another thing at the next look."""
    return summary.partition(DOING)[0]


def unnumbered(summary: str) -> str:
    """The summary of a descriptor of which no line is known, as it is the same for others of its sort."""
    return re.sub(r"\d+", "", summary)


def outcome_of(findings: tuple[Finding, ...]) -> Outcome:
    """The outcome that a test's findings amount to: the worst verdict among them."""
    if not findings:
        return Outcome.CLEAN
    verdicts = {finding.verdict for finding in findings}
    for verdict, outcome in _WORST_FIRST:
        if verdict in verdicts:
            return outcome
    return Outcome.CLEAN


_WORST_FIRST: tuple[tuple[Verdict, Outcome], ...] = (
    (Verdict.LEAKED, Outcome.LEAKED),
    (Verdict.WARNED, Outcome.WARNED),
    (Verdict.KNOWN, Outcome.KNOWN),
    (Verdict.TOLERATED, Outcome.TOLERATED),
    (Verdict.IGNORED, Outcome.TOLERATED),
)
