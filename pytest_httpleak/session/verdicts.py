"""What the suspects of an owner amount to under the settings that count for it: findings, each with its verdict."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_httpleak import rules
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Finding, Suspect, fingerprint, owner_without_parameters
from pytest_httpleak.model.kinds import Verdict
from pytest_httpleak.session.calls import folded
from pytest_httpleak.session.judging import Judging
from pytest_httpleak.session.limits import breaches
from pytest_httpleak.settings import Mode

if TYPE_CHECKING:
    from pytest_httpleak.session.checks import Check
    from pytest_httpleak.session.core import Session

# The scopes of a checked block and of a test.
_BLOCK = "block"
_TEST = "function"


def findings(session: Session, check: Check, suspects: list[Suspect], grace: float) -> tuple[Finding, ...]:
    """Judge the suspects of an owner whose life is over; `grace` is in seconds."""
    settings = check.settings
    if suspects and check.owner.scope == _TEST:  # with others the test goes on, or another is set up
        session.safely(session.let_go)
    judging = Judging(
        session.watch, session.ledger, session.looking, code_of_test=session.code_of_test, item=session.item
    )
    causes = judging.causes(check.owner, suspects, grace, check.tasks_before, settings.kinds) if suspects else []
    files = {site.file: session.relative(site.file) for suspect in causes for site in suspect.stack}
    counted, ignored = rules.split_ignored(causes, settings.ignore, files)
    verdict = Verdict.WARNED if settings.mode is Mode.WARN else Verdict.LEAKED
    sure, unsure = ([each for each in counted if (each.key in judging.unsure) is is_in] for is_in in (False, True))
    found = rules.judged(rules.findings(sure, settings.kinds), settings.tolerate, verdict)
    found += rules.judged(rules.findings(unsure, settings.kinds), settings.tolerate, Verdict.WARNED)
    found += [finding.judged(Verdict.IGNORED) for finding in rules.findings(ignored, settings.kinds)]
    found += [finding.judged(verdict) for finding in breaches(check.owner, settings)]
    judging.settle_accounts(causes)
    told = named(session, found, check)
    return tuple(folded(told)) if session.is_alone else told


def named(session: Session, found: Iterable[Finding], check: Check) -> tuple[Finding, ...]:
    """The same findings with their fingerprints; leaks that the baseline has are known. A block's are those of its test."""
    owner = check.owner
    if owner.scope == _BLOCK and owner.parent is not None:
        owner = owner.parent
    name = owner_without_parameters(owner.name)
    named = []
    for finding in found:
        file = None if finding.created is None else session.relative(finding.created.file)
        named.append(replace(finding, fingerprint=fingerprint(finding, name, file)))
    return tuple(named if session.known is None else rules.known(named, session.known.lines_of))
