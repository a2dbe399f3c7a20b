"""The tests over versions of Python, pytest and the HTTP libraries. `make test` runs them with the newest of all.

A session runs the tests that its subject can break; `nox -- tests` runs them all in each.
"""

import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["pytests", "libraries"]
nox.options.default_venv_backend = "venv"

PARALLEL = ["-q", "-n", "4"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
PYTESTS = {"8.2": "pytest==8.2.*", "8.4": "pytest==8.4.*", "9.0": "pytest==9.0.*", "latest": "pytest"}
TESTED = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text())["tool"]["pytest-httpleak"]["tested"]
LIBRARIES = [
    nox.param(name, age, id=f"{name.partition(',')[0]}-{age}") for name in TESTED for age in ("oldest", "newest")
]
OF_PYTEST = "verdict guard confirming gate api settings_marker settings_run runners field_lessons".split()
# Releases without wheels for a newer Python, or that cannot be imported there, and the first for which that is mended.
OLDEST_ON = {
    "3.13": {"aiohttp==3.9.5": "aiohttp==3.10.5"},
    "3.14": {"aiohttp==3.9.5": "aiohttp==3.13.0", "httpcore==1.0.3": "httpcore==1.0.8"},
    "3.15": {"aiohttp==3.9.5": "aiohttp==3.14.4", "httpcore==1.0.3": "httpcore==1.0.8"},
}


@nox.session(python=PYTHONS)
@nox.parametrize("pytest", list(PYTESTS))
def pytests(session: nox.Session, pytest: str) -> None:
    """Every supported pytest."""
    session.install("--editable", ".[test]", PYTESTS[pytest])
    session.run("pytest", *(session.posargs or [*PARALLEL, *(f"tests/test_{name}.py" for name in OF_PYTEST)]))


@nox.session(python=PYTHONS)
def pairings(session: nox.Session) -> None:
    """Beside other plugins, most of which no other session installs."""
    session.install("--editable", ".[test,pairings]")
    tests = [f"tests/test_{name}.py" for name in ("plugin_pairings", "twisted", "confirming", "field_lessons")]
    session.run("pytest", *(session.posargs or [*PARALLEL, *tests]))


@nox.session(python=PYTHONS)
@nox.parametrize(["library", "age"], LIBRARIES)
def libraries(session: nox.Session, library: str, age: str) -> None:
    """Every HTTP library at its oldest and newest tested version, the others as they come."""
    instead = OLDEST_ON.get(str(session.python), {})
    pins = [instead.get(pin, pin) for pin in TESTED[library][age]]
    session.install("--editable", ".[test]")
    if age == "oldest" and "without" in TESTED[library]:
        session.run("python", "-m", "pip", "uninstall", "--yes", *TESTED[library]["without"], silent=True)
    session.install(*pins)
    session.run("pytest", *(session.posargs or [*PARALLEL, *(f"tests/{name}" for name in TESTED[library]["tests"])]))
