"""From suspects to findings: one cause, one finding; what is tolerated, ignored, known. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import ALSO, DOING, Finding, Held, Site, Suspect, steady, unnumbered
from pytest_httpleak.model.kinds import Kind, State, Verdict
from pytest_httpleak.settings import Pattern

_RANK = {kind: rank for rank, kind in enumerate(Kind)}


def causes(
    suspects: Iterable[Suspect], excused: Collection[int] = (), kinds: Collection[Kind] = tuple(Kind)
) -> list[Suspect]:
    """The suspects that are a cause of their own, the most telling kinds first.

    A suspect whose claims are all taken by an earlier one is held by that one. `excused` names, by key, suspects that
    answer for what they hold and are no leak: a process-wide client. What ends with a suspect whose kind is not among
    the `kinds` that are watched is a cause of its own.
    """
    merged = _merged(suspects)
    excused = {*excused, *(key for suspect in merged if suspect.kind in kinds for key in suspect.owns)}
    claimed: set[object] = set()
    found: list[Suspect] = []
    for suspect in sorted(merged, key=lambda each: (_RANK[each.kind], each.depth)):
        explained = bool(suspect.claims) and suspect.claims <= claimed
        claimed |= suspect.claims
        if (explained and not suspect.always) or suspect.key in excused:
            continue
        found.append(suspect)
    return found


def _merged(suspects: Iterable[Suspect]) -> list[Suspect]:
    """One suspect for each resource, also where several of its parts spoke for it."""
    by_key: dict[tuple[int, Kind], Suspect] = {}
    for suspect in suspects:
        place = suspect.key, suspect.kind
        other = by_key.get(place)
        if other is None:
            by_key[place] = suspect
        else:
            by_key[place] = replace(other, claims=other.claims | suspect.claims, holds=other.holds + suspect.holds)
    return list(by_key.values())


def findings(suspects: Sequence[Suspect], kinds: Collection[Kind] = tuple(Kind)) -> list[Finding]:
    """One finding for each line and kind, with the number of resources that the line left behind."""
    groups: dict[tuple[object, ...], list[Suspect]] = {}
    for suspect in suspects:
        if suspect.kind in kinds:
            place: object = suspect.created
            if place is None:
                sort_of = unnumbered if suspect.library == "os" else steady
                place = suspect.type, sort_of(suspect.summary)
            groups.setdefault((suspect.kind, place), []).append(suspect)
    return [_finding(group) for group in groups.values()]


def _finding(suspects: list[Suspect]) -> Finding:
    """One for all of them; what is still there comes first, and what was dropped beside it is told beside it."""
    group = sorted(suspects, key=lambda each: each.state is State.COLLECTED)
    first, dropped = group[0], sum(each.state is State.COLLECTED for each in group)
    finding = Finding(
        kind=first.kind,
        library=first.library,
        type=first.type,
        state=first.state,
        summary=_summary(group),
        created=first.created,
        stack=first.stack,
        count=len(group),
        holds=_holds(group),
        held_by=next((suspect.held_by for suspect in group if suspect.held_by is not None), None),
        hint="; ".join(dict.fromkeys(suspect.hint for suspect in _of_each_type(group)[:_MOST_TOLD])),
    )
    if first.state is State.COLLECTED or not dropped:
        return finding
    return _told(finding, f"{dropped} of the {len(group)} {'was' if dropped == 1 else 'were'} dropped while open")


_MOST_TOLD = 4  # unlike descriptors, or types of others, each of which anybody wants to know


def _of_each_type(group: list[Suspect]) -> list[Suspect]:
    """The first of each type among what one line has left behind."""
    first: dict[str, Suspect] = {}
    for suspect in group:
        first.setdefault(suspect.type, suspect)
    return [*first.values()]


def _summary(group: list[Suspect]) -> str:
    """What one of them is; where the line has left unlike things behind, one of each sort or type."""
    if group[0].library != "os":
        are_alike = len({each.summary.partition(DOING)[2] for each in group}) == 1
        first, *others = _of_each_type(group)[:_MOST_TOLD]
        told = first.summary if are_alike else steady(first.summary)
        return "".join([told, *(f"{ALSO}{each.type}: {steady(each.summary)}" for each in others)])
    sorts: dict[str, str] = {}
    for suspect in group:
        sorts.setdefault(unnumbered(suspect.summary), suspect.summary)
    return ", ".join([*sorts.values()][:_MOST_TOLD]) + ", ..." * (len(sorts) > _MOST_TOLD)


_MOST_HELD = 8  # lines of held resources that anybody reads below one finding


def _holds(group: list[Suspect]) -> tuple[Held, ...]:
    held = list(dict.fromkeys(each for suspect in group for each in suspect.holds))
    if len(held) <= _MOST_HELD:
        return tuple(held)
    return (*held[:_MOST_HELD], Held.more(held[_MOST_HELD].kind, len(held) - _MOST_HELD))


def split_ignored(
    suspects: Iterable[Suspect], patterns: Sequence[Pattern], relative: Mapping[str, str]
) -> tuple[list[Suspect], list[Suspect]]:
    """Suspects that count, and suspects that a pattern ignores; `relative` gives the short name of a file."""
    counted: list[Suspect] = []
    ignored: list[Suspect] = []
    for suspect in suspects:
        files = _files(suspect, relative)
        hit = any(pattern.matches(suspect.kind, suspect.names, files) for pattern in patterns)
        (ignored if hit else counted).append(suspect)
    return counted, ignored


def _files(suspect: Suspect, relative: Mapping[str, str]) -> tuple[str, ...]:
    """The files of the code that made it: of the line that is told, and of the libraries which that has called."""
    stack = suspect.stack
    if suspect.created is not None and suspect.created in stack:
        stack = stack[: stack.index(suspect.created) + 1]
    files = {site.file for site in stack}
    return (*(file.replace("\\", "/") for file in files), *(relative[file] for file in files if file in relative))


def judged(found: Collection[Finding], tolerate: Mapping[Kind, int], verdict: Verdict) -> list[Finding]:
    """The findings with their verdicts: a kind is tolerated as long as all its leaks together are no more than allowed."""
    totals: dict[Kind, int] = {}
    for finding in found:
        totals[finding.kind] = totals.get(finding.kind, 0) + finding.count
    return [_judged(finding, totals[finding.kind], tolerate.get(finding.kind, 0), verdict) for finding in found]


def _judged(finding: Finding, total: int, tolerated: int, verdict: Verdict) -> Finding:
    if total <= tolerated:
        return finding.judged(Verdict.TOLERATED)
    if not tolerated:
        return finding.judged(verdict)
    return _told(finding, f"{finding.kind.value}={tolerated} is tolerated, and there are {total}").judged(verdict)


def _told(finding: Finding, more: str) -> Finding:
    """The finding with something more to know beside the way to mend it."""
    return replace(finding, hint=f"{finding.hint}; {more}" if finding.hint else more)


def known(found: Sequence[Finding], lines_of: Callable[[str], int]) -> list[Finding]:
    """The findings of one owner, of which those that the baseline has are known.

    `lines_of` gives, for a fingerprint, how many lines were recorded; it names a function, and no line, since lines move.
    Where more lines leak than were recorded, some of them are new.
    How often one line leaks is not compared, as that may vary from run to run.
    """
    lines: dict[str, set[Site | None]] = {}
    for finding in found:
        if finding.verdict in _COUNTED:
            lines.setdefault(finding.fingerprint, set()).add(finding.created)
    return [
        _known(finding, len(lines[finding.fingerprint]), lines_of(finding.fingerprint))
        if finding.verdict in _COUNTED
        else finding
        for finding in found
    ]


_COUNTED = (Verdict.LEAKED, Verdict.WARNED)


def _known(finding: Finding, lines: int, recorded: int) -> Finding:
    if lines <= recorded:
        return finding.judged(Verdict.KNOWN)
    if not recorded or finding.created is None:
        return finding
    known = f"the baseline knows {recorded} of the {lines} lines in {finding.created.function} that leak so"
    return _told(finding, known)
