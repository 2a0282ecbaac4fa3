"""`bd verify`: Dolt, git and Temporal side by side."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from models.errors import ErrorCode, ExitCode, GtError

if TYPE_CHECKING:
    from ledger.store import Ledger
    from models.ledger.records import Rig
    from models.upkeep.verification import Problem, TemporalFacts
    from services.town import Town
    from services.verification import Compared

app = new_app("Verify.")

GRACE_S = 5.0
"""Twice the second that Temporal's list of workflows lags behind, and what a job's write takes."""


@command(app, "verify")
def verify(
    call: Call,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without losing anything.")] = False,
    grace: Annotated[
        float, typer.Option("--grace", metavar="S", min=0, help="While work moves, look again after so many seconds.")
    ] = GRACE_S,
) -> int:
    """Compare Dolt, git and Temporal; each disagreement names the command that mends it."""
    town = connect.open_town(call)
    try:
        with connect.open_ledger(town) as ledger:
            return _report(call, *_compared(town, ledger, grace, fix=fix))
    except GtError as error:
        if error.code is not ErrorCode.LEDGER_DAMAGED:
            raise
        from ledger.verify_rules import troubles
        from models.upkeep.verification import StoreFacts

        return _report(call, troubles(StoreFacts(damage=error.message)), [], [])


def _compared(
    town: Town, ledger: Ledger, grace_s: float, *, fix: bool
) -> tuple[list[Problem], list[Problem], list[str]]:
    """What disagrees, what was mended, and what could not be asked."""
    look = _Look(town, ledger)
    problems = look.settled(grace_s)
    mended: list[Problem] = []
    if fix and any(problem.safe for problem in problems):
        mended = [problem for problem in problems if problem.safe and _mend(town, ledger, problem)]
        problems = look.settled(grace_s)
    return problems, mended, look.unchecked


def _report(call: Call, problems: list[Problem], mended: list[Problem], unchecked: list[str]) -> int:
    from models.upkeep.verification import VerifyReport

    report = VerifyReport(
        ok=not problems and not unchecked, problems=tuple(problems), fixed=tuple(mended), unchecked=tuple(unchecked)
    )
    output.emit(call, output.document(report), _text(report.problems, report.fixed))
    for one in unchecked:
        output.warn(f"not checked: {one}")
    if problems:
        output.fail(f"{len(problems)} disagreements", "bd verify --fix" if any(p.safe for p in problems) else "")
        return ExitCode.FAILED
    if unchecked:
        output.fail("what could not be asked was not checked", "gt up")
        return ExitCode.UNREACHABLE
    return ExitCode.DONE


class _Look:
    """One comparison, repeated while work moves."""

    def __init__(self, town: Town, ledger: Ledger) -> None:
        self._town = town
        self._ledger = ledger
        self.unchecked: list[str] = []

    def settled(self, grace_s: float) -> list[Problem]:
        """The disagreements; while work moves, those that are still there after the grace."""
        compared = self._once()
        found = compared.problems
        if found and compared.moving and grace_s:
            time.sleep(grace_s)
            still = {problem.key for problem in found}
            found = [problem for problem in self._once().problems if problem.key in still]
        return found

    def _once(self) -> Compared:
        from services.verification import TEMPORAL, compare

        compared = compare(self._town.paths, self._ledger, self._temporal)
        self.unchecked = [
            f"{what if what == TEMPORAL else f'git of {what}'}: {why}" for what, why in compared.unread.items()
        ]
        return compared

    def _temporal(self, rigs: list[Rig]) -> TemporalFacts:
        from services.verification import temporal_facts

        return connect.converse(self._town, lambda client: temporal_facts(client, [rig.name for rig in rigs]))


def _mend(town: Town, ledger: Ledger, problem: Problem) -> bool:
    """Mend one; whether something was mended. What changed meanwhile is left alone."""
    from models.upkeep.verification import ProblemKind

    subject, detail = problem.subject, problem.detail
    match problem.kind:
        case ProblemKind.LANDED_BUT_OPEN:
            return ledger.close_landed(subject, detail["sha"])
        case ProblemKind.SUBMITTED_NOT_QUEUED:
            return _submit_again(town, ledger, detail["merge_request"])
        case ProblemKind.POLECAT_WITHOUT_JOB:
            rig, _, name = subject.partition("/")
            return ledger.free_polecat(rig, name, detail["bead"])
        case ProblemKind.REQUEST_WITHOUT_JOB:
            return ledger.settle_request(subject)
        case ProblemKind.DEPENDENCY_ON_NOTHING:
            return ledger.drop_dangling(detail["bead"], detail["needs"])
        case ProblemKind.SCHEMA_DRIFT:
            ledger.mend_schema()
            return True
        case ProblemKind.UNCOMMITTED_CHANGE:
            ledger.commit_leftovers()
            return True
        case _:
            return False


def _submit_again(town: Town, ledger: Ledger, id: str) -> bool:
    from services.verification import submit_again

    request = next((one for one in ledger.merge_requests() if one.id == id), None)
    if request is None:
        return False
    try:
        connect.converse(town, lambda client: submit_again(client, request))
    except GtError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        output.warn(error.message)
        return False
    return True


def _text(problems: tuple[Problem, ...], fixed: tuple[Problem, ...]) -> str:
    lines = [f"mended: {problem.message}" for problem in fixed]
    for problem in problems:
        lines += [f"{problem.kind}: {problem.message}", f"    {problem.command}"]
    return "\n".join(lines) or "Dolt, git and Temporal agree"
