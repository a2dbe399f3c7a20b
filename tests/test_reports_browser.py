"""The HTML report in a real browser: its script runs under its own policy, and nothing else does."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from report_samples import evil_run, full_run

from pytest_httpleak.reports.html_report import render

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_httpleak.model.run import Run

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)

pytestmark = pytest.mark.skipif(_BROWSER is None, reason=f"no browser is installed: none of {', '.join(_NAMES)}")


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., str]:
    """Opens the page of a run; gives the document as the browser has it after the page's script."""

    def browse(report: Run, *options: str, fragment: str = "") -> str:
        page = tmp_path / "report.html"
        page.write_text(render(report), encoding="utf-8")
        assert _BROWSER is not None
        command = [
            _BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=1000",
            *(options or ["--dump-dom"]), f"{page.as_uri()}{fragment}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=120, check=True, cwd=tmp_path)
        console = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]
        assert console == []  # where errors of scripts and breaches of the policy would be
        return done.stdout.decode()

    return browse


def articles(document: str) -> dict[str, bool]:
    """Whether each cause is hidden, by its kind."""
    found = re.findall(r'<article class="[^"]*" data-kind="(\w+)"( hidden="")?>', document)
    return {kind: bool(hidden) for kind, hidden in found}


def test_all_causes_are_shown_at_first(browse: Callable[..., str]) -> None:
    assert articles(browse(full_run())) == dict.fromkeys(("responses", "sockets", "connections", "threads"), False)


def test_the_fragment_of_the_address_chooses_a_kind(browse: Callable[..., str]) -> None:
    document = browse(full_run(), fragment="#responses")
    assert articles(document) == {"responses": False, "sockets": True, "connections": True, "threads": True}
    assert re.search(r'data-kind="responses" aria-pressed="true"', document)


def test_an_unknown_fragment_hides_nothing(browse: Callable[..., str]) -> None:
    assert not any(articles(browse(full_run(), fragment="#nonsense")).values())


def test_harmful_text_runs_nothing(browse: Callable[..., str]) -> None:
    document = browse(evil_run())
    assert document.count("<script") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in document


def test_a_picture_of_the_page_can_be_taken(browse: Callable[..., str], tmp_path: Path) -> None:
    browse(full_run(), f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,1600")
    assert struct.unpack(">II", (tmp_path / "page.png").read_bytes()[16:24]) == (1200, 1600)
