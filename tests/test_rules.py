"""From suspects to findings, by tables."""

from __future__ import annotations

import pytest

from pytest_httpleak import rules
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Finding, Held, Site, Suspect, fingerprint
from pytest_httpleak.model.kinds import Kind, State, Verdict
from pytest_httpleak.reports.wording import headline, held_lines
from pytest_httpleak.settings import Pattern

HERE = Site("/src/app.py", 3, "fetch")
THERE = Site("/src/app.py", 9, "poll")


def suspect(kind: Kind, key: int, *claims: object, **fields: object) -> Suspect:
    made = Suspect(kind, "lib", "lib.Thing", State.OPEN, f"thing {key}", key, created=HERE, claims=frozenset(claims))
    return replace(made, **fields)  # type: ignore[arg-type]


RESPONSE = suspect(Kind.RESPONSES, 1, "socket", always=True)
CLIENT = suspect(Kind.CLIENTS, 2, "socket")
CONNECTION = suspect(Kind.CONNECTIONS, 3, "socket")
SOCKET = suspect(Kind.SOCKETS, 4, "socket")
FD = suspect(Kind.FDS, 5, "socket")


@pytest.mark.parametrize(
    "given",
    [(RESPONSE, CLIENT), (RESPONSE, CONNECTION, SOCKET), (CLIENT, CONNECTION), (CONNECTION, SOCKET), (SOCKET, FD)],
    ids=lambda group: "+".join(each.kind for each in group),
)
def test_the_most_telling_kind_answers_for_what_it_holds(given: tuple[Suspect, ...]) -> None:
    assert rules.causes(reversed(given)) == [given[0]]


def test_a_client_with_another_connection_is_a_cause_beside_its_response() -> None:
    client = replace(CLIENT, claims=frozenset(("socket", "another")))
    assert rules.causes([client, RESPONSE]) == [RESPONSE, client]


def test_what_an_earlier_suspect_holds_stays_held_whatever_comes_between() -> None:
    client = suspect(Kind.CLIENTS, 2, "another")
    assert rules.causes([RESPONSE, client, SOCKET]) == [RESPONSE, client]
    assert rules.causes([RESPONSE, client, suspect(Kind.SOCKETS, 4, "third")])[2].key == 4


def test_two_responses_on_one_connection_are_two_causes() -> None:
    other = replace(RESPONSE, key=9)
    assert len(rules.causes([RESPONSE, other])) == 2


def test_a_suspect_without_claims_is_always_a_cause() -> None:
    assert rules.causes([RESPONSE, suspect(Kind.THREADS, 7)])[1].kind is Kind.THREADS


@pytest.mark.parametrize(
    ("doings", "told"),
    [
        (("in poll (a.py:1)", "in poll (a.py:1)"), "thread 1, now in poll (a.py:1)"),
        (("in poll", "in rest"), "thread 1"),
    ],
)
def test_what_threads_are_doing_is_told_where_all_of_a_line_do_the_same(doings: tuple[str, ...], told: str) -> None:
    threads = [
        suspect(Kind.THREADS, key, summary=f"thread {key}, now {doing}") for key, doing in enumerate(doings, start=1)
    ]
    assert [(finding.summary, finding.count) for finding in rules.findings(threads)] == [(told, 2)]


def test_what_a_thread_without_a_line_is_doing_makes_it_no_other_cause() -> None:
    threads = [
        suspect(Kind.THREADS, key, created=None, summary=f"'worker' running work, now in {where}")
        for key, where in enumerate(("poll", "rest"))
    ]
    assert [finding.count for finding in rules.findings(threads)] == [2]


def test_an_outer_client_comes_before_the_pool_inside_it() -> None:
    pool = replace(CLIENT, key=8, depth=2)
    assert rules.causes([pool, CLIENT]) == [CLIENT]


def test_an_excused_client_is_no_cause_and_still_answers_for_its_connection() -> None:
    assert rules.causes([CLIENT, SOCKET], excused={CLIENT.key}) == []


def test_what_comes_after_an_excused_client_is_still_a_cause() -> None:
    thread = suspect(Kind.THREADS, 7)
    assert rules.causes([CLIENT, thread], excused={CLIENT.key}) == [thread]


def test_what_ends_with_another_suspect_is_no_cause_whatever_its_kind() -> None:
    task, client = suspect(Kind.TASKS, 7), suspect(Kind.CLIENTS, 2)
    owning = replace(task, owns=frozenset((client.key,)))
    assert rules.causes([client, owning]) == [owning]
    assert rules.causes([client, task]) == [client, task]


def test_parts_of_one_resource_are_one_suspect() -> None:
    first = suspect(Kind.CLIENTS, 2, "a", holds=(Held(Kind.SOCKETS, "a"),))
    second = suspect(Kind.CLIENTS, 2, "b", holds=(Held(Kind.SOCKETS, "b"),))
    (merged,) = rules.causes([first, second])
    assert merged.claims == {"a", "b"}
    assert [held.summary for held in merged.holds] == ["a", "b"]


def test_what_several_parts_hold_is_named_once() -> None:
    one, other = Held(Kind.SOCKETS, "a"), Held(Kind.SOCKETS, "b")
    parts = [suspect(Kind.CLIENTS, 2, holds=holds) for holds in ((one,), (one, other))]
    assert rules.findings(rules.causes(parts))[0].holds == (one, other)


def test_resources_of_two_kinds_are_two_suspects_also_by_one_number() -> None:
    given = [suspect(Kind.SOCKETS, 7), suspect(Kind.FDS, 7)]
    assert rules.causes(given) == given


def test_the_same_line_is_one_finding_with_a_count() -> None:
    (finding,) = rules.findings([suspect(Kind.SOCKETS, key) for key in range(3)])
    assert finding.count == 3


def test_a_finding_tells_what_the_first_of_its_resources_tells() -> None:
    first = replace(SOCKET, stack=(HERE, THERE), hint="close the first")
    (finding,) = rules.findings([first, replace(SOCKET, key=9, summary="thing 9", stack=(HERE,), hint="another")])
    assert (finding.summary, finding.stack, finding.hint) == ("thing 4", (HERE, THERE), "close the first")
    assert finding.created == HERE


def test_unlike_types_of_one_line_are_all_told_with_what_mends_each() -> None:
    first = suspect(Kind.CLIENTS, 1, hint="close it")
    other = suspect(Kind.CLIENTS, 2, type="lib.Other", hint="end it")
    (found,) = rules.findings([first, other, suspect(Kind.CLIENTS, 3, hint="close it")])
    assert (found.type, found.count, found.hint) == ("lib.Thing", 3, "close it; end it")
    assert headline(found) == "3 HTTP clients leaked: lib.Thing thing 1; also lib.Other: thing 2, never closed"


@pytest.mark.parametrize(
    ("dropped", "told"), [(1, "; 1 of the 2 was dropped while open"), (2, "; 2 of the 3 were dropped while open")]
)
def test_what_a_line_has_dropped_and_what_it_has_kept_are_told_apart(dropped: int, told: str) -> None:
    """As where the same name is given one after the other: the last is there, and the others are not."""
    gone = [replace(SOCKET, key=key, state=State.COLLECTED, hint="close it") for key in range(dropped)]
    kept = replace(SOCKET, key=9, hint="close it", held_by="module attribute app.last")
    (finding,) = rules.findings([*gone, kept])
    assert finding.state is State.OPEN
    assert finding.summary == kept.summary
    assert finding.hint == "close it" + told


def test_what_a_line_has_dropped_alone_is_told_as_that() -> None:
    gone = [replace(SOCKET, key=key, state=State.COLLECTED, hint="close it") for key in (1, 2)]
    (finding,) = rules.findings(gone)
    assert finding.state is State.COLLECTED
    assert finding.hint == "close it"


def test_two_lines_are_two_findings() -> None:
    assert len(rules.findings([SOCKET, replace(SOCKET, created=THERE)])) == 2


def test_two_kinds_on_one_line_are_two_findings() -> None:
    assert len(rules.findings([SOCKET, FD])) == 2


def test_what_has_no_line_is_told_apart_by_what_it_is() -> None:
    unknown = replace(FD, created=None)
    for other in (replace(unknown, summary="another"), replace(unknown, type="lib.Other")):
        assert len(rules.findings([unknown, other])) == 2
    assert len(rules.findings([unknown, replace(unknown, key=9)])) == 1


def test_descriptors_of_one_sort_that_have_no_line_are_one_finding() -> None:
    made = [
        suspect(Kind.FDS, -number, created=None, library="os", summary=f"fd {number}: {target}")
        for number, target in ((7, "anon_inode:[eventfd]"), (9, "anon_inode:[eventpoll]"), (11, "anon_inode:[eventfd]"))
    ]
    found = [(finding.summary, finding.count) for finding in rules.findings(made)]
    assert found == [("fd 7: anon_inode:[eventfd]", 2), ("fd 9: anon_inode:[eventpoll]", 1)]


def descriptors(*targets: str) -> list[Suspect]:
    """Bare descriptors of one line, which lead there."""
    return [
        suspect(Kind.FDS, -number, library="os", summary=f"fd {number}: {target}")
        for number, target in enumerate(targets, start=1)
    ]


@pytest.mark.parametrize(
    ("targets", "summary"),
    [
        (("/tmp/1", "/tmp/2", "/tmp/3"), "fd 1: /tmp/1"),
        (("/dev/urandom", "pipe:[7]", "pipe:[7]", "inotify"), "fd 1: /dev/urandom, fd 2: pipe:[7], fd 4: inotify"),
        (tuple("abcdef"), "fd 1: a, fd 2: b, fd 3: c, fd 4: d, ..."),
    ],
    ids=["like", "unlike", "too many"],
)
def test_unlike_descriptors_of_one_line_are_all_told(targets: tuple[str, ...], summary: str) -> None:
    (finding,) = rules.findings(descriptors(*targets))
    assert (finding.summary, finding.count) == (summary, len(targets))


def test_kinds_that_are_not_watched_are_left_out() -> None:
    assert rules.findings([SOCKET, FD], kinds=(Kind.FDS,))[0].kind is Kind.FDS


def test_a_long_list_of_held_things_is_cut() -> None:
    holds = tuple(Held(Kind.SOCKETS, f"socket {number}") for number in range(20))
    (finding,) = rules.findings([replace(CLIENT, holds=holds)])
    assert finding.holds[-1].summary == "and 12 more"
    assert held_lines(finding, "/")[8:] == ["and 12 more"]


@pytest.mark.parametrize(
    ("tolerated", "verdict"), [(0, Verdict.LEAKED), (1, Verdict.LEAKED), (2, Verdict.TOLERATED), (3, Verdict.TOLERATED)]
)
def test_a_kind_is_tolerated_up_to_its_number(tolerated: int, verdict: Verdict) -> None:
    found = rules.findings([SOCKET, replace(SOCKET, key=9, created=THERE)])
    assert {each.verdict for each in rules.judged(found, {Kind.SOCKETS: tolerated}, Verdict.LEAKED)} == {verdict}


@pytest.mark.parametrize(
    ("tolerated", "told"),
    [(0, "close it"), (1, "close it; sockets=1 is tolerated, and there are 2"), (2, "close it")],
)
def test_where_more_leaks_than_is_tolerated_the_hint_says_how_much_that_is(tolerated: int, told: str) -> None:
    found = rules.findings([replace(SOCKET, hint="close it"), replace(SOCKET, key=9, created=THERE, hint="close it")])
    assert {each.hint for each in rules.judged(found, {Kind.SOCKETS: tolerated}, Verdict.LEAKED)} == {told}


def test_a_tolerance_of_another_kind_helps_nothing() -> None:
    assert rules.judged(rules.findings([SOCKET]), {Kind.FDS: 1}, Verdict.LEAKED)[0].verdict is Verdict.LEAKED


@pytest.mark.parametrize(
    ("pattern", "ignored"),
    [
        ("sockets:127.*", True),
        ("fds:127.*", False),
        ("sockets:10.*", False),
        ("created:*/app.py", True),
        ("created:app.py", True),
        ("created:*/other.py", False),
    ],
)
def test_patterns_ignore_by_name_or_by_who_made_it(pattern: str, ignored: bool) -> None:
    named = replace(SOCKET, names=("127.0.0.1:80",), stack=(HERE,))
    counted, left_out = rules.split_ignored([named], [Pattern.parse(pattern)], {HERE.file: "app.py"})
    assert (len(counted), len(left_out)) == ((0, 1) if ignored else (1, 0))


@pytest.mark.parametrize(("file", "ignored"), [("inner.py", True), ("app.py", True), ("outer.py", False)])
def test_who_made_it_is_the_line_that_is_told_and_what_that_has_called(file: str, ignored: bool) -> None:
    stack = tuple(Site(f"/src/{each}.py", 3, "fetch") for each in ("inner", "app", "outer"))
    made = replace(SOCKET, stack=stack, created=stack[1])
    counted, _ = rules.split_ignored([made], [Pattern.parse(f"created:*/{file}")], {})
    assert counted == ([] if ignored else [made])


def test_one_pattern_of_several_that_matches_is_enough() -> None:
    named = replace(SOCKET, names=("127.0.0.1:80",))
    matching, other = Pattern.parse("sockets:127.*"), Pattern.parse("sockets:10.*")
    for patterns in ((matching, other), (other, matching)):
        assert rules.split_ignored([named], patterns, {}) == ([], [named])
    assert rules.split_ignored([named], (other,), {}) == ([named], [])


def test_a_file_without_a_short_name_is_matched_by_its_full_one() -> None:
    made = replace(SOCKET, stack=(HERE,))
    assert rules.split_ignored([made], [Pattern.parse("created:/src/*")], {}) == ([], [made])
    assert rules.split_ignored([made], [Pattern.parse("created:app.py")], {}) == ([made], [])


@pytest.mark.parametrize(
    ("pattern", "ignored"),
    [("created:C:/src/lib/app.py", True), ("created:lib/*", True), ("created:src/*", False), ("created:lib", False)],
)
def test_a_file_of_windows_is_matched_with_slashes_by_either_name(pattern: str, ignored: bool) -> None:
    made = replace(SOCKET, stack=(Site(r"C:\src\lib\app.py", 3, "fetch"),))
    short = {r"C:\src\lib\app.py": "lib/app.py"}
    counted, left_out = rules.split_ignored([made], [Pattern.parse(pattern)], short)
    assert (counted, left_out) == (([], [made]) if ignored else ([made], []))


@pytest.mark.parametrize(("number", "last"), [(1, "fd 0"), (8, "fd 7"), (9, "and 1 more"), (20, "and 12 more")])
def test_as_many_held_things_are_named_as_anybody_reads(number: int, last: str) -> None:
    group = [suspect(Kind.SOCKETS, each, holds=(Held(Kind.FDS, f"fd {each}", each),)) for each in range(number)]
    (finding,) = rules.findings(group)
    assert finding.holds[-1].summary == last
    assert len(finding.holds) == min(number, 9)


def test_a_finding_says_what_holds_the_first_of_which_that_is_known() -> None:
    group = [
        SOCKET,
        replace(SOCKET, key=8, held_by="module attribute app.kept"),
        replace(SOCKET, key=9, held_by="other"),
    ]
    assert rules.findings(group)[0].held_by == "module attribute app.kept"
    assert rules.findings([SOCKET])[0].held_by is None


# -- what the baseline has ---------------------------------------------------------------------------------------------


def leak(line: int, count: int = 1, verdict: Verdict = Verdict.LEAKED) -> Finding:
    made = rules.findings(
        [suspect(Kind.SOCKETS, key, created=Site("/src/app.py", line, "fetch")) for key in range(count)]
    )[0]
    return replace(made, hint="close it", verdict=verdict, fingerprint="recorded")


@pytest.mark.parametrize(
    ("found", "recorded", "verdict"),
    [
        ([leak(3)], 1, Verdict.KNOWN),
        ([leak(3)], 0, Verdict.LEAKED),
        ([leak(9)], 1, Verdict.KNOWN),
        ([leak(3, count=500)], 1, Verdict.KNOWN),
        ([leak(3), leak(9)], 2, Verdict.KNOWN),
        ([leak(3), leak(9)], 1, Verdict.LEAKED),
        ([leak(3)], 2, Verdict.KNOWN),
    ],
    ids=["known", "unknown", "moved", "more of one line", "two lines", "a new line", "one mended"],
)
def test_as_many_lines_of_a_function_are_known_as_were_recorded(
    found: list[Finding], recorded: int, verdict: Verdict
) -> None:
    judged = rules.known(found, {"recorded": recorded}.__getitem__)
    assert [each.verdict for each in judged] == [verdict] * len(found)


def test_where_a_new_line_leaks_beside_a_known_one_the_hint_says_how_many_are_known() -> None:
    hints = {each.hint for each in rules.known([leak(3), leak(9)], lambda _: 1)}
    assert hints == {"close it; the baseline knows 1 of the 2 lines in fetch that leak so"}
    assert [each.hint for each in rules.known([leak(3), leak(9)], lambda _: 0)] == ["close it", "close it"]


def test_what_is_tolerated_is_no_new_line() -> None:
    found = [leak(3), leak(9, verdict=Verdict.TOLERATED)]
    assert [each.verdict for each in rules.known(found, lambda _: 1)] == [Verdict.KNOWN, Verdict.TOLERATED]


def test_a_warning_is_known_as_a_failure_is() -> None:
    (judged,) = rules.known([leak(3, verdict=Verdict.WARNED)], lambda _: 1)
    assert judged.verdict is Verdict.KNOWN


@pytest.mark.parametrize("state", State)
def test_a_breached_limit_and_a_leak_have_different_fingerprints(state: State) -> None:
    opened = leak(3)
    same = fingerprint(replace(opened, state=state), "a test", None) == fingerprint(opened, "a test", None)
    assert same is (state is not State.PEAK)


def test_a_fingerprint_has_no_line() -> None:
    assert fingerprint(leak(3), "a test", None) == fingerprint(leak(9), "a test", None)
