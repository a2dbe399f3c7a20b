"""The CI gate from end to end: baseline, reports, tolerances, annotations."""

from __future__ import annotations

import json

import pytest
from inner import Inner

LEAKY = "import socket\nKEPT = []\ndef leak(): KEPT.append(socket.socket())\n"


def suite(*names: str, clean: tuple[str, ...] = ()) -> str:
    """A test file in which each named test leaks a socket by a function of its own, so that each is a leak of its own."""
    parts = ["import socket", "KEPT = []"]
    parts += [f"def test_{name}():\n    KEPT.append(socket.socket())" for name in names]
    parts += [f"def test_{name}():\n    socket.socket().close()" for name in clean]
    return "\n".join(parts) + "\n"


def test_the_story_of_a_suite_with_old_leaks(inner: Inner) -> None:
    inner.write(test_old=suite("a", "b", "c", "d", "e"))
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline").assert_outcomes(passed=5)
    assert len(json.loads((inner.path / "known.json").read_text())["leaks"]) == 5

    inner.run("--httpleak-baseline=known.json").assert_outcomes(passed=5)
    assert set(inner.outcomes().values()) == {"known"}

    inner.write(test_old="\n\n# lines have moved\n" + suite("f", "a", "b", "c", "d", clean=("e",)))
    result = inner.run("--httpleak-baseline=known.json")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["*test_f*", "*no longer seen*", "*in test_e*", "*1 leaked*"])

    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline").assert_outcomes(passed=6)
    owners = [leak["owner"] for leak in json.loads((inner.path / "known.json").read_text())["leaks"]]
    assert owners == [f"test_old.py::test_{name}" for name in "abcdf"]


@pytest.mark.parametrize("names", ["a", ""])
def test_a_baseline_that_does_not_exist_is_named_beside_the_leaks_that_it_may_know(inner: Inner, names: str) -> None:
    inner.write(test_new=suite(*names, clean=("b",)))
    result = inner.run("--httpleak-baseline=typo.json")
    result.assert_outcomes(passed=1, failed=len(names))
    assert ("typo.json does not exist, so no leak is known" in result.stdout.str()) == bool(names)
    assert not (inner.path / "typo.json").exists()


def test_a_part_of_the_suite_does_not_empty_the_baseline(inner: Inner) -> None:
    inner.write(test_old=suite("a", "b"))
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline", "-k", "test_a")
    assert len(json.loads((inner.path / "known.json").read_text())["leaks"]) == 2


def test_a_new_line_beside_a_known_one_fails_and_says_how_many_are_known(inner: Inner) -> None:
    text = "import socket\nKEPT = []\ndef test_a():\n    KEPT.append(socket.socket())\n"
    inner.write(test_a=text)
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    inner.write(test_a=text + "    for _ in range(50): KEPT.append(socket.socket())\n")
    result = inner.run("--httpleak-baseline=known.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*fix: *; the baseline knows 1 of the 2 lines in test_a that leak so"])
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    inner.run("--httpleak-baseline=known.json").assert_outcomes(passed=1)


def test_more_leaks_of_a_known_line_are_known(inner: Inner) -> None:
    text = "import socket\nKEPT = []\ndef test_a():\n    for _ in range({}): KEPT.append(socket.socket())\n"
    inner.write(test_a=text.format(2))
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    inner.write(test_a="# moved\n" + text.format(5))
    inner.run("--httpleak-baseline=known.json").assert_outcomes(passed=1)
    assert inner.outcomes() == {"test_a": "known"}


@pytest.mark.parametrize(
    ("body", "outcome"),
    [("one, two = socket.socket(), socket.socket()", "known"), ("KEPT.append(socket.socket())", "leaked")],
)
def test_a_leak_is_not_known_by_a_limit_that_was_breached(inner: Inner, body: str, outcome: str) -> None:
    text = "import pytest, socket\nKEPT = []\n@pytest.mark.httpleak(peak_sockets=1)\ndef test_a():\n    {}\n"
    close = "one.close()\n    two.close()\n"
    inner.write(test_a=text.format(f"one, two = socket.socket(), socket.socket()\n    {close}"))
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    inner.write(test_a=text.format(f"{body}\n    {close if outcome == 'known' else ''}"))
    inner.run("--httpleak-baseline=known.json")
    assert inner.outcomes() == {"test_a": outcome}


# A baseline of two leaks that have been mended; the variants put something in their way.
MENDED = """
import pytest, socket
@pytest.fixture(scope="module")
def wide():
    {fixture}
    with socket.socket() as sock: yield sock
{mark}
@pytest.mark.parametrize("x", [1, 2])
def test_a(x):
    {body}
    socket.socket().close()
def test_wide(wide):
    {user}
def test_other(): pass
"""
OWNERS = ["fixture 'wide' (module scope, test_a.py)", "test_a.py::test_a"]


def recorded(inner: Inner, **parts: str) -> None:
    """Write the suite with these parts, beside a baseline of leaks that it does not have any more."""
    parts = {"fixture": "", "mark": "", "body": "", "user": "pass", "top": ""} | parts
    inner.write(test_a=parts["top"] + MENDED.format(**parts))
    entries = [
        {"fingerprint": str(number), "kind": "sockets", "library": "socket", "owner": owner, "text": "x"}
        | {"file": "test_a.py", "function": "f", "lines": 1}
        for number, owner in enumerate(OWNERS)
    ]
    (inner.path / "known.json").write_text(json.dumps({"httpleak-baseline": 1, "leaks": entries}), "utf-8")


def kept(inner: Inner) -> list[str]:
    return sorted(leak["owner"] for leak in json.loads((inner.path / "known.json").read_text("utf-8"))["leaks"])


UPDATE = ("--httpleak-baseline=known.json", "--httpleak-update-baseline")


@pytest.mark.parametrize("arguments", [(), ("-p", "xdist", "-n", "2")], ids=" ".join)
def test_what_was_judged_and_does_not_leak_any_more_is_removed(inner: Inner, arguments: tuple[str, ...]) -> None:
    if "xdist" in arguments:
        pytest.importorskip("xdist")
    recorded(inner)
    result = inner.run("--httpleak-baseline=known.json", *arguments)
    result.stdout.fnmatch_lines(["*in the baseline, but no longer seen*"])
    result = inner.run(*UPDATE, *arguments)
    result.stdout.fnmatch_lines(["*0 leaks recorded, 0 of them new, 2 removed"])
    assert kept(inner) == []


def test_a_file_of_the_suite_shows_what_its_tests_do_not_leak_any_more(inner: Inner) -> None:
    recorded(inner)
    inner.run(*UPDATE, "test_a.py")
    assert kept(inner) == OWNERS[:1]  # tests of other files might ask for the fixture


@pytest.mark.parametrize(
    ("parts", "arguments"),
    [
        ({"top": "1 / 0\n"}, ()),
        ({"top": "1 / 0\n"}, ("--continue-on-collection-errors",)),
        ({"top": "import pytest\npytest.importorskip('no_such_module')\n"}, ()),
        ({"mark": "@pytest.mark.httpleak(socket=1)"}, ()),
        ({"body": "pytest.exit('stop')"}, ()),
        ({"body": "raise KeyboardInterrupt"}, ()),
        ({}, ("--collect-only",)),
        ({}, ("--setup-only",)),
        ({}, ("--setup-plan",)),
        ({}, ("--httpleak-kinds=fds",)),
        ({}, ("--ignore=test_a.py",)),
        ({}, ("-k", "test_other")),
        ({}, ("test_a.py::test_other",)),
        ({}, ("test_a.py::test_a[1]", "test_a.py::test_wide")),
        ({}, ("--deselect=test_a.py::test_a[1]",)),
    ],
    ids=str,
)
def test_a_run_that_judges_neither_keeps_both(inner: Inner, parts: dict[str, str], arguments: tuple[str, ...]) -> None:
    inner.write(test_b="def test_b(): pass")
    recorded(inner, **parts)
    inner.run("--httpleak-baseline=known.json", *arguments).stdout.no_fnmatch_line("*no longer seen*")
    inner.run(*UPDATE, *arguments).stdout.no_fnmatch_line("*[12] removed*")
    assert kept(inner) == OWNERS


@pytest.mark.parametrize(
    ("parts", "arguments", "owners"),
    [
        ({"mark": "@pytest.mark.skip"}, (), OWNERS[1:]),
        ({"mark": "@pytest.mark.xfail", "body": "assert 0"}, (), OWNERS[1:]),
        ({"mark": "@pytest.mark.httpleak(mode='off')"}, (), OWNERS[1:]),
        ({"body": "if x == 2: pytest.skip()"}, (), OWNERS[1:]),
        ({"body": "assert x == 2"}, (), OWNERS[1:]),
        ({"user": "pytest.skip()"}, (), OWNERS[:1]),
        ({"fixture": "pytest.skip()"}, (), OWNERS[:1]),
        ({"fixture": "assert 0"}, (), OWNERS[:1]),
    ],
    ids=str,
)
def test_what_was_not_judged_to_its_end_is_kept(
    inner: Inner, parts: dict[str, str], arguments: tuple[str, ...], owners: list[str]
) -> None:
    recorded(inner, **parts)
    result = inner.run("--httpleak-baseline=known.json", *arguments)
    result.stdout.fnmatch_lines(["*no longer seen*"])
    result.stdout.no_fnmatch_line(f"*left by {owners[0]}*")
    result = inner.run(*UPDATE, *arguments)
    result.stdout.fnmatch_lines(["*1 leaks recorded, 0 of them new, 1 removed, 1 not judged in this run and kept"])
    assert kept(inner) == owners


def test_a_fixture_of_a_module_that_is_switched_off_is_kept_whatever_its_tests_are(inner: Inner) -> None:
    recorded(inner, top="import pytest\npytestmark = pytest.mark.httpleak(mode='off')\n")
    inner.write(
        conftest="""
        import pytest
        def pytest_collection_modifyitems(items):
            for item in items: item.add_marker(pytest.mark.httpleak(mode="fail"))
        """
    )
    inner.run(*UPDATE)
    assert kept(inner) == OWNERS[:1]


def test_a_run_in_which_no_test_is_marked_leaves_the_baseline_alone(
    inner: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_httpleak.plugin")
    recorded(inner)
    before = (inner.path / "known.json").read_text("utf-8")
    result = inner.run(*UPDATE, plugin=())
    result.stdout.fnmatch_lines(["*known.json: no test was judged to its end, so it stays as it is"])
    assert (inner.path / "known.json").read_text("utf-8") == before


def test_a_run_in_which_some_tests_are_marked_keeps_what_the_others_left(
    inner: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_httpleak.plugin")
    recorded(inner)
    inner.write(test_b="import pytest\n@pytest.mark.httpleak\ndef test_b(): pass\n")
    inner.run(*UPDATE, plugin=())
    assert kept(inner) == OWNERS
    recorded(inner, mark="@pytest.mark.httpleak")
    inner.run(*UPDATE, plugin=())
    assert kept(inner) == OWNERS[:1]


def test_an_error_within_pytest_costs_no_entry(inner: Inner) -> None:
    recorded(inner)
    inner.write(conftest="def pytest_runtest_logreport(report):\n    if 'test_a' in report.nodeid: 1 / 0\n")
    assert inner.run(*UPDATE, faulty=True).ret == 3
    assert kept(inner) == OWNERS


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_that_crashes_costs_no_entry_of_what_it_ran(inner: Inner, processes: str) -> None:
    pytest.importorskip("xdist")
    recorded(inner, body="import os; os._exit(1)")
    inner.run(*UPDATE, "-p", "xdist", "-n", processes, "--max-worker-restart=4")
    assert kept(inner) == OWNERS


def test_an_entry_of_a_test_that_was_removed_goes_with_a_whole_run(inner: Inner) -> None:
    recorded(inner)
    inner.write(test_a="def test_other(): pass\n")
    inner.run(*UPDATE, "-k", "other")
    assert kept(inner) == OWNERS
    inner.run(*UPDATE)
    assert kept(inner) == []


def test_where_another_plugin_runs_the_tests_it_is_known_which_came_to_their_end(inner: Inner) -> None:
    pytest.importorskip("pytest_rerunfailures")
    plugin = ("-p", "pytest_rerunfailures", "--reruns=1")
    recorded(inner, body="if x == 2: pytest.skip()")
    inner.run(*UPDATE, *plugin)
    assert kept(inner) == OWNERS[1:]
    recorded(inner)
    inner.run(*UPDATE, *plugin)
    assert kept(inner) == []


def test_reordered_parameters_stay_known(inner: Inner) -> None:
    text = LEAKY + "import pytest\n@pytest.mark.parametrize('x', [{}])\ndef test_x(x): leak()\n"
    inner.write(test_x=text.format("1, 2"))
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    inner.write(test_x=text.format("2, 1, 3"))
    inner.run("--httpleak-baseline=known.json").assert_outcomes(passed=3)


@pytest.mark.parametrize("folder", ["plain", "odd[x]"])
def test_a_leak_below_a_folder_with_a_bracket_is_known_by_its_own_test(inner: Inner, folder: str) -> None:
    (inner.path / folder).mkdir()
    test = inner.path / folder / "test_a.py"
    test.write_text(LEAKY + "def test_old(): leak()\ndef test_new(): pass\n", "utf-8")
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    test.write_text(LEAKY + "def test_old(): leak()\ndef test_new(): leak()\n", "utf-8")
    inner.run("--httpleak-baseline=known.json").assert_outcomes(passed=1, failed=1)
    assert inner.outcomes() == {"test_old": "known", "test_new": "leaked"}


@pytest.mark.parametrize("folder", ["plain", "odd[x]"])
def test_a_tolerance_below_a_folder_with_a_bracket_is_named_by_its_own_test(inner: Inner, folder: str) -> None:
    (inner.path / folder).mkdir()
    text = "import pytest\n@pytest.mark.httpleak(sockets={0})\n@pytest.mark.parametrize('x', [1, 2])\ndef test_{0}(x): pass\n"
    (inner.path / folder / "test_a.py").write_text(text.format(2) + text.format(3), "utf-8")
    result = inner.run()
    name = folder.replace("[", "[[]")
    for number in "23":
        result.stdout.fnmatch_lines([f"  {name}/test_a.py::test_{number}: tolerates sockets={number}, but none leaked"])


def test_a_foreign_file_is_no_baseline_and_stays_as_it_is(inner: Inner) -> None:
    inner.write(test_a=suite("a"))
    (inner.path / "known.json").write_text('{"other": 1}')
    result = inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*known.json*httpleak-baseline*"])
    assert (inner.path / "known.json").read_text() == '{"other": 1}'


def test_a_report_that_cannot_be_written_is_named_and_not_green(inner: Inner) -> None:
    inner.write(test_a=suite(clean=("a",)))
    (inner.path / "folder.md").mkdir()
    result = inner.run("--httpleak-report=folder.md")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*folder.md*"])


def test_a_wider_tolerance_than_needed_is_named(inner: Inner) -> None:
    inner.write(
        test_a=LEAKY
        + "import pytest\n@pytest.mark.httpleak(sockets=3)\ndef test_wide(): leak()\n"
        + "@pytest.mark.httpleak(sockets=1)\ndef test_exact(): leak()\n"
    )
    result = inner.run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_wide: tolerates sockets=3, but 1 leaked"])
    result.stdout.no_fnmatch_line("*test_exact: tolerates*")
    result.stdout.no_fnmatch_line("*fails the run*")
    strict = inner.run("-o", "httpleak_strict_tolerances=true")
    strict.stdout.fnmatch_lines(["*wider than needed, which fails the run (httpleak_strict_tolerances):"])
    assert strict.ret == 1


@pytest.mark.parametrize(
    ("mark", "arguments", "status"),
    [("", (), 1), ("", ("--httpleak=warn",), 0), ("mode='warn', ", (), 0), ("mode='fail', ", (), 1)],
)
def test_a_wider_tolerance_than_needed_fails_no_run_in_which_nothing_fails(
    inner: Inner, mark: str, arguments: tuple[str, ...], status: int
) -> None:
    inner.write(test_a=f"import pytest\n@pytest.mark.httpleak({mark}sockets=3)\ndef test_wide(): pass\n")
    result = inner.run("-o", "httpleak_strict_tolerances=true", *arguments)
    result.stdout.fnmatch_lines(["*test_wide: tolerates sockets=3, but none leaked"])
    assert result.ret == status


def test_a_tolerance_of_a_kind_that_is_not_watched_is_not_wider_than_needed(inner: Inner) -> None:
    inner.write(test_a=LEAKY + "import pytest\n@pytest.mark.httpleak(sockets=1, threads=1)\ndef test_a(): leak()\n")
    result = inner.run("-o", "httpleak_strict_tolerances=true", "--httpleak-kinds=threads")
    result.stdout.fnmatch_lines(["*test_a: tolerates threads=1, but none leaked"])
    result.stdout.no_fnmatch_line("*tolerates sockets*")


def test_what_a_block_tolerates_needs_no_tolerance_of_the_tests(inner: Inner) -> None:
    inner.write(
        test_a=LEAKY
        + "import pytest\n@pytest.mark.httpleak(sockets=1)\ndef test_block(httpleak):\n"
        + "    with httpleak.check(sockets=1):\n        leak()\n"
    )
    result = inner.run()
    assert inner.outcomes() == {"test_block": "tolerated"}
    result.stdout.fnmatch_lines(["*test_block: tolerates sockets=1, but none leaked"])


@pytest.mark.parametrize(
    ("mark", "body"),
    [
        ("@pytest.mark.httpleak(mode='off')", "leak()"),
        ("@pytest.mark.skip", "leak()"),
        ("@pytest.mark.xfail(run=False)", "leak()"),
        ("@pytest.mark.xfail", "assert 0"),
        ("", "pytest.skip('no network here')"),
        ("", "assert 0"),
        ("@pytest.mark.usefixtures('broken')", "leak()"),
    ],
)
def test_a_test_that_was_not_judged_does_not_show_that_it_tolerates_too_much(
    inner: Inner, mark: str, body: str
) -> None:
    inner.write(
        test_a=LEAKY
        + "import pytest\npytestmark = pytest.mark.httpleak(sockets=1)\n"
        + "@pytest.fixture\ndef broken(): raise OSError\n"
        + f"{mark}\ndef test_a():\n    {body}\ndef test_needs_it(): leak()\n"
    )
    result = inner.run("-o", "httpleak_strict_tolerances=true")
    result.stdout.no_fnmatch_line("*wider than needed*")
    assert result.ret == ("assert 0" in body and not mark) or "broken" in mark


def test_a_parameter_that_was_not_judged_may_need_what_is_tolerated(inner: Inner) -> None:
    inner.write(
        test_a=LEAKY
        + "import pytest\n@pytest.mark.httpleak(sockets=1)\n@pytest.mark.parametrize('x', [1, 2])\n"
        + "def test_a(x):\n    if x == 2: pytest.skip('not here')\n"
        + "@pytest.mark.httpleak(sockets=2)\n@pytest.mark.parametrize('x', [1, 2])\n"
        + "def test_b(x):\n    if x == 2: leak()\n"
    )
    result = inner.run()
    result.stdout.no_fnmatch_line("*test_a: tolerates*")
    result.stdout.fnmatch_lines(["*test_b: tolerates sockets=2, but 1 leaked"])
    inner.run("-k", "1").stdout.no_fnmatch_line("*wider than needed*")


def test_a_breached_limit_needs_no_tolerance(inner: Inner) -> None:
    inner.write(
        test_a=LEAKY
        + "import pytest\n@pytest.mark.httpleak(sockets=1, peak_sockets=0)\n"
        + "def test_peak():\n    socket.socket().close()\n"
        + "@pytest.mark.httpleak(sockets=1, peak_sockets=0)\ndef test_leak(): leak()\n"
    )
    result = inner.run()
    assert inner.outcomes() == {"test_peak": "leaked", "test_leak": "leaked"}
    result.stdout.fnmatch_lines(["*test_peak: tolerates sockets=1, but none leaked"])
    result.stdout.no_fnmatch_line("*test_leak: tolerates*")


def test_what_a_test_tolerates_at_run_time_is_not_said_to_be_a_markers(inner: Inner) -> None:
    inner.write(test_a=LEAKY + "def test_a(httpleak):\n    httpleak.tolerate(sockets=2)\n    leak()\n")
    result = inner.run()
    result.stdout.fnmatch_lines(["  test_a.py::test_a: tolerates sockets=2, but 1 leaked"])


def test_github_gets_an_annotation_for_each_new_leak(inner: Inner, monkeypatch: object) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")  # type: ignore[attr-defined]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(inner.path / "summary.md"))  # type: ignore[attr-defined]
    inner.write(test_a=suite("a", clean=("b",)))
    result = inner.run()
    result.stdout.fnmatch_lines(["::error file=test_a.py,line=4*"])
    assert "socket" in (inner.path / "summary.md").read_text("utf-8")
    inner.run("-o", "httpleak_github=false").stdout.no_fnmatch_line("::error*")


def test_a_stopped_run_writes_what_it_has_and_says_that_it_is_incomplete(inner: Inner) -> None:
    inner.write(test_a=suite("a", "b"))
    inner.run("-x").assert_outcomes(failed=1)
    assert inner.report["summary"]["complete"] is False
    assert inner.outcomes() == {"test_a": "leaked"}


def test_a_run_that_stops_at_its_last_test_is_complete(inner: Inner) -> None:
    inner.write(test_a=suite("a"))
    result = inner.run("-x")
    result.assert_outcomes(failed=1)
    assert inner.report["summary"]["complete"] is True
    result.stdout.no_fnmatch_line("*incomplete*")


def test_an_interrupted_run_writes_what_it_has(inner: Inner) -> None:
    inner.write(test_a=suite("a") + "def test_interrupt(): raise KeyboardInterrupt\n")
    assert inner.run().ret == 2
    assert inner.report["summary"]["complete"] is False
    assert inner.outcomes()["test_a"] == "leaked"


def test_a_crashed_worker_costs_no_row_but_its_own(inner: Inner) -> None:
    pytest.importorskip("xdist")
    inner.write(
        test_a=suite("a", "b", clean=("c", "d")),
        test_b="import os, signal\ndef test_crash(): os.kill(os.getpid(), signal.SIGKILL)\n",
        test_c=suite("e", clean=("f",)),
    )
    inner.run("-p", "xdist", "-n", "2")
    leaked, clean = (
        dict.fromkeys(("test_a", "test_b", "test_e"), "leaked"),
        dict.fromkeys(("test_c", "test_d", "test_f"), "clean"),
    )
    assert inner.outcomes() == leaked | clean
    assert inner.report["summary"]["complete"] is False


SECRETS = ("hunter2", "s3cret", "abc123", "c00kie", "k3y")

LEAKS_WITH_SECRETS = """
    import asyncio, http.client, urllib.request
    import aiohttp, httpx, requests, urllib3

    KEPT = []

    def test_urllib():
        asked = urllib.request.Request("{url}/big?token=s3cret", headers={{"Authorization": "Bearer abc123"}})
        KEPT.append(urllib.request.urlopen(asked))

    def test_http_client():
        connection = http.client.HTTPConnection("{url}".partition("//")[2])
        connection.request("GET", "/big?token=s3cret", headers={{"X-Api-Key": "k3y", "Cookie": "id=c00kie"}})
        KEPT.append((connection, connection.getresponse()))

    def test_requests():
        KEPT.append(requests.get("{url}/big", params={{"token": "s3cret"}}, auth=("joe", "hunter2"), stream=True))

    def test_urllib3():
        pool = urllib3.PoolManager(headers={{"Authorization": "Bearer abc123"}})
        KEPT.append(pool.request("GET", "{with_user}/big?token=s3cret", preload_content=False))

    def test_httpx():
        client = httpx.Client(cookies={{"id": "c00kie"}}, auth=("joe", "hunter2"))
        KEPT.append(client.send(client.build_request("GET", "{with_user}/big?token=s3cret"), stream=True))

    def test_aiohttp():
        async def main():
            session = aiohttp.ClientSession(headers={{"X-Api-Key": "k3y"}})
            KEPT.append((session, await session.get("{with_user}/big?token=s3cret")))
        asyncio.run(main())
"""


def test_secrets_never_reach_any_output(inner: Inner, server: str) -> None:
    with_user = server.replace("http://", "http://joe:hunter2@")
    inner.write(test_a=LEAKS_WITH_SECRETS.format(url=server, with_user=with_user))
    suffixes = ("html", "md", "sarif", "prom")
    result = inner.run(*(f"--httpleak-report=out.{suffix}" for suffix in suffixes), "--junitxml=j.xml")
    result.assert_outcomes(failed=6)
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    texts = {"terminal": result.stdout.str(), "json": json.dumps(inner.report)}
    texts |= {name: (inner.path / name).read_text("utf-8") for name in ("j.xml", "known.json")}
    texts |= {suffix: (inner.path / f"out.{suffix}").read_text("utf-8") for suffix in suffixes}
    assert not [(place, secret) for place, text in texts.items() for secret in SECRETS if secret in text]


def test_a_leak_of_the_baseline_is_known_where_leaks_only_warn(inner: Inner) -> None:
    inner.write(test_a="import socket\nKEPT = []\ndef test_leaks(): KEPT.append(socket.socket())\n")
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    result = inner.run("--httpleak-baseline=known.json", "--httpleak=warn")
    assert inner.outcomes() == {"test_leaks": "known"}
    result.assert_outcomes(passed=1, warnings=0)
