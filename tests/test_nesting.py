"""Everything is put back at the end; sessions one after the other and inside each other find each leak once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from inner import Inner

# Everything of these modules and of their classes, by its place.
INVENTORY = """
import sys, types

LIBRARIES = [name for name in {libraries} if __import__("importlib.util").util.find_spec(name)]
for name in LIBRARIES:
    __import__(name)

def inventory():
    found = {}
    names = ["os", "io", "_io", "builtins", "socket", "select", "selectors", "sqlite3", "mmap", "threading", "_thread",
             "concurrent.futures.thread", "http.client", "urllib.request", "ssl", "signal", "gc", "importlib._bootstrap",
             "sqlite3.dbapi2"]
    packages = ("asyncio", *LIBRARIES)
    names += [name for name in sys.modules if name.partition(".")[0] in packages]
    for name in names:
        module = sys.modules.get(name)
        for key, value in list(vars(module).items()) if isinstance(module, types.ModuleType) else ():
            if key.startswith("__") and key.endswith("__"):
                continue
            found[name, key] = value
            if isinstance(value, type):
                for attribute, part in list(vars(value).items()):
                    if attribute not in ("__doc__", "__abstractmethods__", "_abc_impl", "__annotations__"):
                        found[name, key, attribute] = part
    found["finders"] = tuple(sys.meta_path)
    found["hooks"] = (sys.excepthook, sys.unraisablehook, sys.gettrace(), sys.getprofile())
    return found

def differing(before, after):
    plain = (int, float, str, bytes, tuple, list, dict, set, frozenset, type(None))
    return sorted(
        str(place)
        for place, value in after.items()
        if place not in before or (before[place] is not value and not (isinstance(value, plain) and before[place] == value))
    ) + sorted(str(place) for place in before if place not in after)
"""

LIBRARIES = (
    "urllib3",
    "requests",
    "httpx",
    "httpcore",
    "httpx2",
    "httpcore2",
    "aiohttp",
    "uvloop",
    "trio",
    "anyio",
    "pycares",
)

TWICE = """
import os
import sys

sys.dont_write_bytecode = True
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

{inventory}

import json
import pytest

folder = sys.argv[1]

def run(name):
    report = f"{folder}/{name}.json"
    status = pytest.main(["-p", "httpleak", "-p", "no:cacheprovider", "-q", "--httpleak-grace=0.1", f"--rootdir={folder}",
                          f"--httpleak-report={report}", f"{folder}/test_{name}.py"])
    with open(report) as file:
        rows = json.load(file)["tests"]
    return int(status), {row["nodeid"].rpartition("::")[2]: [row["outcome"], [f["count"] for f in row["findings"]],
                         [f["created"] and f["created"]["function"] for f in row["findings"]]] for row in rows}

run("warm")  # what pytest and its plugins import and make at first use
before = inventory()
first = run("first")
middle = inventory()
second = run("second")
after = inventory()
print("RESULT", json.dumps({"first": first, "second": second, "kept": differing(before, middle) + differing(before, after)}))
"""

USING = """
import asyncio
import os
import socket
import threading

KEPT = []
STOP = threading.Event()

def opens():
    return socket.socket()

def test_leaks():
    KEPT.append(opens())

def test_is_clean():
    opens().close()
    asyncio.run(asyncio.sleep(0))
    with open(__file__):
        pass

def test_leaks_a_descriptor():
    KEPT.extend([os.open(os.devnull, os.O_RDONLY)])
"""


WARM = "import asyncio\ndef test_nothing(): asyncio.run(asyncio.sleep(0))"


def twice(inner: Inner, *libraries: str) -> dict[str, object]:
    """What two sessions in one process have found, and what they have not put back."""
    for name in ("warm", "first", "second"):
        (inner.path / f"test_{name}.py").write_text(WARM if name == "warm" else USING)
    script = TWICE.replace("{inventory}", INVENTORY.replace("{libraries}", repr(libraries)))
    (inner.path / "twice.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "twice.py", str(inner.path)],
        cwd=inner.path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    result: dict[str, object] = json.loads(line.removeprefix("RESULT "))
    assert "INTERNALERROR" not in done.stdout
    assert "switched off" not in done.stdout
    return result


def test_two_sessions_in_one_process_find_the_same_and_put_everything_back(inner: Inner) -> None:
    result = twice(inner, *LIBRARIES)
    wanted = [
        1,
        {
            "test_leaks": ["leaked", [1], ["opens"]],
            "test_is_clean": ["clean", [], []],
            "test_leaks_a_descriptor": ["leaked", [1], ["test_leaks_a_descriptor"]],
        },
    ]
    assert result["first"] == wanted
    assert result["second"] == wanted
    assert result["kept"] == []


# -- pytester inside a watched run -------------------------------------------------------------------------------------

NESTED = """
import socket

import pytest

pytest_plugins = ["pytester"]

KEPT = []
INNER = '''
import os
import socket
import threading

import pytest

KEPT = []

@pytest.fixture(scope="module")
def wide():
    KEPT.append(socket.socket())

def test_inner_leaks(wide):
    KEPT.append(socket.socket())

def test_inner_leaks_a_file(wide):
    KEPT.append(open(__file__))

def test_inner_leaks_a_descriptor():
    KEPT.append(os.open(os.devnull, os.O_RDONLY))

def test_inner_drops_one():
    socket.socket()

def test_inner_is_clean():
    socket.socket().close()
'''

ALL = (INNER, "-p", "httpleak", "--httpleak-grace=0.1", "-p", "no:cacheprovider", "-W", "ignore::ResourceWarning")


def run_inner(pytester, how, *more):
    pytester.makepyfile(ALL[0])
    result = getattr(pytester, how)(*ALL[1:], *more)
    result.assert_outcomes(failed=4, passed=1, errors=1)
    result.stdout.fnmatch_lines(["*5 checked, 4 leaked*1 fixture leaked*"])


@pytest.mark.parametrize("how", ["runpytest_inprocess", "runpytest_subprocess"])
def test_a_nested_run_leaks(pytester, how):
    run_inner(pytester, how)


@pytest.mark.parametrize("how", ["runpytest_inprocess", "runpytest_subprocess"])
def test_leaks_before_a_nested_run(pytester, how):
    KEPT.append(socket.socket())
    run_inner(pytester, how)


@pytest.mark.parametrize("how", ["runpytest_inprocess", "runpytest_subprocess"])
def test_leaks_after_a_nested_run(pytester, how):
    run_inner(pytester, how)
    KEPT.append(socket.socket())


def test_leaks_in_a_nested_run_that_is_not_watched(pytester):
    pytester.makepyfile("import socket, builtins\\nbuiltins.KEPT = []\\ndef test_a(): builtins.KEPT.append(socket.socket())")
    pytester.runpytest_inprocess("-p", "httpleak", "--httpleak=off").assert_outcomes(passed=1)


def test_leaks_at_last():
    KEPT.append(socket.socket())


def test_is_clean_at_last():
    socket.socket().close()
"""


@pytest.fixture
def nested(inner: Inner) -> Inner:
    inner.write(test_outer=NESTED)
    return inner


def test_a_run_inside_a_watched_run_keeps_its_leaks_to_itself(nested: Inner) -> None:
    result = nested.run("-W", "ignore::ResourceWarning", "-p", "no:unraisableexception")
    outcomes = nested.outcomes()
    wrong = {
        name: outcome
        for name, outcome in outcomes.items()
        if outcome != ("leaked" if name.startswith("test_leaks") else "clean")
    }
    assert wrong == {}, result.stdout.str()
    for row in nested.report["tests"]:
        if row["outcome"] == "leaked":
            (finding,) = row["findings"]
            assert finding["created"] is not None
            where = "test_a" if "not_watched" in row["nodeid"] else row["nodeid"].rpartition("::")[2].partition("[")[0]
            assert finding["created"]["function"] == where
    assert len(outcomes) == 9
    result.stdout.no_fnmatch_line("*switched off*")
