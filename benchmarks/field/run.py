"""Runs third-party suites with and without the plugin: `python benchmarks/field/run.py urllib3` says what differs."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from compare import Comparison, Result, compare, findings_text, read_outcomes
from suites import SUITES, Suite

REPOSITORY = Path(__file__).resolve().parents[2]
LOOPBACK = Path(__file__).with_name("loopback.py")

# A plugin that names ours to the sessions within tests, which pytester keeps from all options of the outer one.
INNER = """
def pytest_sessionstart():
    from _pytest.pytester import Pytester

    original = Pytester.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self._monkeypatch.setenv("PYTEST_ADDOPTS", "-p {name}")

    Pytester.__init__ = init
"""


class Failed(Exception):
    """A suite that could not be fetched, installed or run."""


def main() -> int:
    """Run the suites that were asked for; exit status 1 where the plugin changed an outcome or a run was cut short."""
    options = _options()
    cache = Path(options.cache)
    chosen = [suite for suite in SUITES if not options.suites or suite.name in options.suites]
    unknown = set(options.suites) - {suite.name for suite in chosen}
    if unknown:
        print(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(suite.name for suite in SUITES)}")
        return 2
    bad = 0
    for suite in chosen:
        try:
            comparison = _run_suite(suite, options, cache)
        except Failed as reason:
            print(f"{suite.name} {suite.version}: {reason}", flush=True)
            bad += 1
            continue
        print(comparison.text(), flush=True)
        if options.show:
            print(findings_text(comparison.report), flush=True)
        bad += not comparison.is_good
    return 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="names from suites.py; all of them unless given")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for the suites' environments")
    parser.add_argument("--cache", default=Path(tempfile.gettempdir(), "httpleak-field"), help="where to work")
    parser.add_argument("--plugin", default=str(REPOSITORY), help="the plugin's source tree")
    parser.add_argument("--show", action="store_true", help="print every finding")
    parser.add_argument("--only-with", action="store_true", help="reuse the last run without the plugin")
    parser.add_argument("--inner", action="store_true", help="the plugin also within the sessions that pytester runs")
    parser.add_argument("-k", dest="keyword", help="as pytest's -k, in both runs")
    return parser.parse_args()


def _run_suite(suite: Suite, options: argparse.Namespace, cache: Path) -> Comparison:
    source = _fetch(suite, options.python, cache)
    python = _environment(suite, options, cache)
    results = cache / "results" / f"{suite.name}-{suite.version}"
    results.mkdir(parents=True, exist_ok=True)
    without = results / "without.xml"
    if not (options.only_with and without.exists()):
        _pytest(suite, options, python, source, without, "-p", "no:httpleak")
    report = results / "httpleak.json"
    report.unlink(missing_ok=True)
    _pytest(suite, options, python, source, results / "with.xml", "-p", "httpleak", f"--httpleak-report={report}")
    first, second = read_outcomes(without), read_outcomes(results / "with.xml")
    comparison = compare(suite, first, second, _loaded(report))
    if comparison.changed:  # a suite that flickers by itself does so without the plugin too
        again = _pytest(suite, options, python, source, results / "again.xml", "-p", "no:httpleak")
        comparison = compare(suite, first, second, _loaded(report), read_outcomes(again))
    return comparison


def _loaded(report: Path) -> Result:
    if not report.exists():
        raise Failed(f"the run with the plugin wrote no report; see {report.parent}")
    data: Result = json.loads(report.read_text())
    return data


def _fetch(suite: Suite, python: str, cache: Path) -> Path:
    """The unpacked source distribution."""
    name = suite.name
    downloads, sources = cache / "sdists", cache / "sources"
    wanted = sources / f"{name}-{suite.version}"
    if not wanted.exists():
        requirement = f"{name}=={suite.version}"
        _call(python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, "-d", downloads, requirement)
        spelt = f"{name}-{suite.version}".replace("-", "_").lower()
        archive = next(each for each in downloads.iterdir() if each.name.replace("-", "_").lower().startswith(spelt))
        with tarfile.open(archive) as packed:
            top = packed.getnames()[0].partition("/")[0]
            packed.extractall(sources, filter="data")
        for notes in (sources / top).rglob("*.egg-info"):  # would make a second distribution of what is installed
            shutil.rmtree(notes)
        (sources / top).rename(wanted)
    return wanted


def _environment(suite: Suite, options: argparse.Namespace, cache: Path) -> Path:
    """The interpreter of the suite's own virtual environment."""
    folder = cache / "environments" / suite.name
    inner = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = [suite.requirement, *suite.install.split(), options.plugin]
    note = folder / "requirements.txt"
    if not note.exists() or note.read_text().split("\n") != wanted:
        _call(options.python, "-m", "venv", "--clear", folder)
        _call(inner, "-m", "pip", "install", "-q", *wanted[:-1])
        _call(inner, "-m", "pip", "install", "-q", "-e", options.plugin)
        note.write_text("\n".join(wanted))
    return inner


def _call(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{done.stdout[-1000:]}{done.stderr[-3000:]}")


def _pytest(
    suite: Suite, options: argparse.Namespace, python: Path, source: Path, junit: Path, *arguments: str
) -> Path:
    """Run the suite once; its output lies beside its JUnit file, and the seconds it took in a file of their own."""
    command = [
        sys.executable,
        LOOPBACK,
        python,
        "-P",
        "-m",
        "pytest",
        "-q",
        *shlex.split(suite.arguments),
        *arguments,
        f"--junitxml={junit}",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-o", "faulthandler_timeout=120"]
    command += [f"--deselect={nodeid}" for nodeid in suite.deselect if "::" in nodeid]
    names = [f"not {name}" for name in suite.deselect if "::" not in name]
    keyword = " and ".join([f"({options.keyword})"] * bool(options.keyword) + names)
    if keyword:
        command += ["-k", keyword]
    modules = {"field_setup": suite.setup} if suite.setup else {}
    if options.inner:
        modules["field_inner"] = INNER.replace("{name}", arguments[1])
    junit.unlink(missing_ok=True)
    log = junit.with_suffix(".log")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV_"))}
    # `-P`: the folder that pytest runs in must not put the source's own package before the installed one.
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PY_COLORS": "0"}
    if modules:
        environment["PYTHONPATH"] = str(junit.parent)
    for name, code in modules.items():
        (junit.parent / f"{name}.py").write_text(code + "\n")
        command += ["-p", name]
    began = time.monotonic()
    with log.open("w") as output:
        try:
            subprocess.run(
                list(map(str, command)),
                check=False,
                cwd=source,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=suite.timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"did not end within {suite.timeout} s; see {log}") from error
    junit.with_suffix(".seconds").write_text(f"{time.monotonic() - began:.1f}")
    if not junit.exists():
        raise Failed(f"wrote no results; see {log}\n{log.read_text()[-2000:]}")
    return junit


if __name__ == "__main__":
    sys.exit(main())
