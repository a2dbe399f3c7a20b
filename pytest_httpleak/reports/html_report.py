"""The HTML report: one page that needs nothing but itself, for a person who wants to see what to mend first."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from pytest_httpleak.model.kinds import Kind, Outcome
from pytest_httpleak.reports.causes import Cause, causes, growing
from pytest_httpleak.reports.chart import growth_rows, line_chart
from pytest_httpleak.reports.closing import closing_lines
from pytest_httpleak.reports.markup import Html, tag, text
from pytest_httpleak.reports.notes import counted, notes
from pytest_httpleak.reports.places import (
    UNKNOWN_LINE,
    Owner,
    callers,
    code_line,
    library_line,
    line_of,
    made_at,
    place,
)
from pytest_httpleak.reports.text_safety import safe, safe_name
from pytest_httpleak.reports.wording import described, figures, grown, held_label, held_lines, noun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_httpleak.model.findings import Finding
    from pytest_httpleak.model.pools import PoolState
    from pytest_httpleak.model.rows import Growth
    from pytest_httpleak.model.run import Run

_MAX_CAUSES: Final = 500
_MAX_OWNERS: Final = 200
_MAX_TESTS: Final = 5000
_MAX_POOLS: Final = 500


def render(run: Run) -> str:
    """The whole page. It may run its own script and style and load nothing: its policy names them by their hashes."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    found = causes(run)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"HTTP leaks: {run.summary.leaked:,} of {run.summary.checked:,} tests"),
        tag("style", Html(style)),
    )
    sections = (_causes(found, run), _growth(run), _trend(run), _pools(run), _notes(run), _tests(run))
    body = tag("body", _header(run), tag("main", sections), _footer(run), tag("script", Html(script)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8").strip()


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _header(run: Run) -> Html:
    summary = run.summary
    fixtures = sum(row.outcome is Outcome.LEAKED for row in run.fixtures)
    is_bad = summary.leaked > 0 or fixtures > 0
    verdict = counted(summary.leaked, "leaking test") if summary.leaked or not fixtures else ""
    if fixtures:
        verdict += (", " if verdict else "") + counted(fixtures, "leaking fixture")
    cards = (
        tag("div", tag("dd", number), tag("dt", name), class_=f"figure {name}" + ("" if number else " none"))
        for name, number in figures(summary).items()
    )
    about = f"pytest-httpleak {run.version} · Python {run.python} · {run.platform}"
    return tag(
        "header",
        tag("p", "HTTP leak report", class_="kicker"),
        tag("h1", verdict if is_bad else "No leaks", class_="bad" if is_bad else "good"),
        tag("p", about, class_="about"),
        tag("dl", cards, class_="figures"),
    )


def _causes(found: Sequence[Cause], run: Run) -> Html:
    if not found:
        return tag("section", tag("h2", "Leaks by cause"), tag("p", "Nothing was left behind.", class_="empty"))
    shown = found[:_MAX_CAUSES]
    counts = Counter(cause.finding.kind for cause in shown)
    buttons = [tag("button", "all ", tag("span", len(shown)), type="button", data_kind="", aria_pressed="true")]
    buttons += [
        tag("button", f"{kind.value} ", tag("span", counts[kind]), type="button", data_kind=kind.value,
            aria_pressed="false")
        for kind in Kind if counts[kind]
    ]  # fmt: skip
    search = tag("input", type="search", id="search", placeholder="Filter by file, test or text", aria_label="Filter")
    return tag(
        "section",
        tag("h2", "Leaks by cause"),
        tag("div", tag("div", buttons, class_="kinds", role="group", aria_label="Kind"), search, class_="filter"),
        (_cause(cause, run.rootdir) for cause in shown),
        tag("p", "Nothing matches.", id="nothing", class_="empty", hidden=True),
        _more(len(found) - len(shown), "causes"),
    )


def _cause(cause: Cause, rootdir: str) -> Html:
    finding = cause.finding
    code = "" if finding.created is None else code_line(finding.created, rootdir)
    verdict = tag("span", finding.verdict.value, class_=f"verdict {finding.verdict.value}")
    return tag(
        "article",
        tag("p", verdict, tag("span", noun(finding.kind), class_="kind"), tag("span", cause.extent, class_="extent"),
            class_="tags"),
        tag("h3", made_at(finding, rootdir)),
        _code(finding, code),
        tag("p", described(finding), class_="what"),
        _facts(finding, rootdir),
        _owners(cause.owners),
        class_=f"cause {finding.verdict.value}",
        data_kind=finding.kind.value,
    )  # fmt: skip


def _code(finding: Finding, code: str) -> Html | None:
    if finding.created is None or not code:
        return None
    return tag("pre", tag("span", str(finding.created.line), class_="number"), tag("code", code))


def _facts(finding: Finding, rootdir: str) -> Html | None:
    facts: list[tuple[str, list[str]]] = [
        ("made in", list(filter(None, [library_line(finding)]))),
        ("called from", [place(site, rootdir) for site in callers(finding, rootdir)]),
        (held_label(finding), held_lines(finding, rootdir)),
        ("held by", [safe(finding.held_by)] if finding.held_by else []),
        ("fix", [safe(finding.hint)] if finding.hint else []),
    ]
    items = [
        text(tag("dt", label), (tag("dd", value, class_=label) for value in values))
        for label, values in facts
        if values
    ]
    return tag("dl", items, class_="facts") if items else None


def _owners(owners: Sequence[Owner]) -> Html:
    if len(owners) == 1:
        return tag("p", "Left by ", tag("span", safe_name(owners[0].name), class_="owner"), class_="left-by")
    items = (tag("li", safe_name(owner.name)) for owner in owners[:_MAX_OWNERS])
    more = _more(len(owners) - _MAX_OWNERS, "owners")
    return tag("details", tag("summary", f"Left by {len(owners):,}"), tag("ul", items), more)


def _growth(run: Run) -> Html | None:
    found = growing(run)
    if not found:
        return None
    items = (_grown(growth, run.rootdir) for growth in found[:_MAX_CAUSES])
    return tag("section", tag("h2", "Growing, test after test"), items, _more(len(found) - _MAX_CAUSES, "lines"))


def _grown(growth: Growth, rootdir: str) -> Html:
    where = UNKNOWN_LINE if growth.created is None else place(growth.created, rootdir)
    code = "" if growth.created is None else code_line(growth.created, rootdir)
    facts = [("held by", safe(growth.held_by or "")), ("fix", safe(growth.hint))]
    terms = (text(tag("dt", label), tag("dd", value, class_=label)) for label, value in facts if value)
    return tag(
        "div",
        tag("p", tag("span", noun(growth.kind), class_="kind"), tag("span", grown(growth), class_="extent"),
            class_="tags"),
        tag("h3", where),
        tag("pre", tag("code", code)) if code else None,
        tag("p", f"{safe(growth.type)}: {safe(growth.summary)}", class_="what"),
        tag("dl", terms, class_="facts"),
        class_="growth",
    )  # fmt: skip


def _trend(run: Run) -> Html | None:
    if not run.trend:
        return None
    rows = [
        tag("tr", tag("th", name, scope="row"), (tag("td", number) for number in (first, highest, last)),
            tag("td", f"{last - first:+,}" if last != first else "0", class_="grown" if last > first else None))
        for name, first, highest, last in growth_rows(run.trend)
    ]  # fmt: skip
    return tag(
        "section",
        tag("h2", "Open in the process over the session"),
        line_chart(run.trend),
        _table(("", "first", "highest", "last", "change"), rows),
    )


def _pools(run: Run) -> Html | None:
    if not run.pools:
        return None
    names = (
        "library,origin,idle,active,expired,connecting,waiting,limit,idle limit,per host,made,requests,reuse,thrown away"
    ).split(",")
    rows = []
    for pool in run.pools[:_MAX_POOLS]:
        numbers: tuple[int | str, ...] = (
            pool.idle, pool.active, pool.expired, pool.connecting, _or(pool.waiting, "-"),
            *(_or(limit, "none") for limit in (pool.max_connections, pool.max_keepalive, pool.per_host)),
            pool.connections_made, pool.requests,
            "-" if pool.reuse is None else f"{pool.reuse:.1f}",
            _or(pool.overflow, "-"),
        )  # fmt: skip
        cells = (tag("td", number) for number in numbers)
        rows.append(tag("tr", tag("td", safe(pool.library)), _origin(pool, run.rootdir), cells))
    more = _more(len(run.pools) - _MAX_POOLS, "pools")
    return tag("section", tag("h2", "Connection pools"), _table(names, rows), more)


def _or(number: int | None, word: str) -> int | str:
    return word if number is None else number


def _origin(pool: PoolState, rootdir: str) -> Html:
    created = "" if pool.created is None else line_of(pool.created, rootdir)
    about = ", ".join(filter(None, (safe_name(pool.owner), created)))
    return tag("td", safe(pool.origin), tag("br"), tag("span", about, class_="hint"), class_="wide")


def _notes(run: Run) -> Html | None:
    groups = notes(run)
    if not groups:
        return None
    rows = []
    for group in groups[:_MAX_CAUSES]:
        where = "" if group.note.created is None else line_of(group.note.created, run.rootdir)
        message = tag(
            "td", safe(group.note.message), tag("br"), tag("span", safe(group.note.hint), class_="hint"), class_="wide"
        )
        rows.append(
            tag(
                "tr",
                tag("td", safe_name(group.note.name), class_="name"),
                message,
                tag("td", where, class_="wide"),
                tag("td", group.count),
            )
        )
    return tag("section", tag("h2", "Audit notes"), _table(("note", "what it means", "where", "times"), rows))


def _tests(run: Run) -> Html | None:
    if not run.tests:
        return None
    order = [Outcome.LEAKED, Outcome.WARNED, Outcome.KNOWN, Outcome.TOLERATED, Outcome.UNCHECKED, Outcome.CLEAN]
    rows = sorted(run.tests, key=lambda row: order.index(row.outcome))
    items = []
    for row in rows[:_MAX_TESTS]:
        attempts = f" (in {row.repeated} of {row.attempts} attempts)" if row.attempts > 1 else ""
        outcome = tag("span", row.outcome.value, class_=f"verdict {row.outcome.value}")
        items.append(tag("li", outcome, safe_name(row.nodeid), attempts))
    more = _more(len(rows) - _MAX_TESTS, "tests")
    return tag("section", tag("details", tag("summary", f"All {len(rows):,} tests"), tag("ul", items), more))


def _footer(run: Run) -> Html:
    return tag("footer", (tag("p", line) for line in closing_lines(run)))


def _table(names: Sequence[str], rows: Sequence[Html]) -> Html:
    head = tag("thead", tag("tr", (tag("th", name, scope="col") for name in names)))
    return tag("div", tag("table", head, tag("tbody", rows)), class_="scroll")


def _more(number: int, word: str) -> Html | None:
    return tag("p", f"and {number:,} more {word}", class_="empty") if number > 0 else None
