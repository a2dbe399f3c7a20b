"""The plugin's own modules are loaded past pytest's hook for assertions, and nothing else is."""

from __future__ import annotations

import sys

import pytest
from inner import Inner

from pytest_httpleak.loading import OwnModules

REWRITTEN = 'import pytest\npytest.register_assert_rewrite("pytest_httpleak", "helper")\n'
LOADERS = """
import sys
import pytest
import helper
import pytest_httpleak.session.judging
from pytest_httpleak.loading import OwnModules

def test_loaders():
    own = {name: type(module.__loader__).__name__ for name, module in sys.modules.items() if "pytest_httpleak." in name}
    late = "pytest_httpleak.loading", "pytest_httpleak.plugin"  # what pytest itself imports, and what that needs
    assert {name for name, loader in own.items() if loader != "SourceFileLoader"} <= set(late)
    assert "pytest_httpleak.guard" in own
    assert type(helper.__loader__).__name__ == "AssertionRewritingHook"
"""


@pytest.fixture
def rewriting(inner: Inner) -> Inner:
    """Inner runs in which pytest rewrites the plugin's modules, as it does wherever it finds plugins by itself."""
    inner.write(early=REWRITTEN, helper="", test_a=LOADERS)
    return inner


def test_pytest_does_not_rewrite_the_modules_of_the_plugin(rewriting: Inner) -> None:
    result = rewriting.run("-p", "early", "-W", "error")
    result.assert_outcomes(passed=1)


def test_without_the_finder_it_would(rewriting: Inner) -> None:
    rewriting.write(
        early=REWRITTEN + "from pytest_httpleak import loading\nloading.OwnModules.find_spec = lambda *args: None\n"
    )
    result = rewriting.run("-p", "early")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("*Extra items in the left set*")


def test_the_other_finders_are_left_as_they_were() -> None:
    before = list(sys.meta_path)
    with OwnModules() as finder:
        assert sys.meta_path == [finder, *before]
    assert sys.meta_path == before


@pytest.mark.parametrize("name", ["json", "pytest_httpleak", "pytest_httpleaks.plugin"])
def test_no_other_module_is_looked_for(name: str) -> None:
    assert OwnModules().find_spec(name) is None
