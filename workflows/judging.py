"""Gating a chain: which of its commits are green, and who is to blame where one is red."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.gates import GateActivities
    from models.base import Frozen
    from models.merging import Chain, ChainLink, GateOutcome, GateReport, MergeBatch, RunGates
    from policies.merge_search import Knowledge, learn, next_probe
    from workflows import options


class Judgement(Frozen):
    """What the gates say of a chain."""

    green: int
    """how many changes from the chain's start may land"""
    culprit: GateReport | None = None
    """set when the change right behind the green ones is to blame"""
    could_not_run: str = ""
    """set when the gates could not decide: nobody is to blame"""


class ChainJudge:
    """Runs a batch's gates, never twice at a commit whose result is known.

    A gate that could not run decides nothing by itself: it is tried on the target's own tip as a
    control. Where the control passes and the candidate fails in the same way once more, the
    change is to blame; in every other case nobody is.
    """

    def __init__(self, batch: MergeBatch) -> None:
        self._batch = batch
        self._judged: dict[str, GateReport] = {}
        """by commit; a report that is not `passed` is one to blame the commit for"""
        self._runs_at: dict[str, int] = {}
        self.runs = 0
        self.story: list[str] = []
        """one line per run, for people"""

    async def judge(self, chain: Chain) -> Judgement:
        """Find the chain's green start and, where the chain is red, the first culprit."""
        known = Knowledge(size=len(chain.links))
        if not self._batch.rig.gates:
            return Judgement(green=known.size)
        culprit: GateReport | None = None
        while (prefix := next_probe(known)) is not None:
            link = chain.links[prefix - 1]
            report, trouble = await self._try(link, chain.base_sha, f"{prefix} of {known.size}")
            if trouble:
                return Judgement(green=known.green, could_not_run=trouble)
            green = report.outcome is GateOutcome.PASSED
            if not green:
                culprit = report
            known = learn(known, prefix, green=green)
        return Judgement(green=known.green, culprit=culprit)

    async def _try(self, link: ChainLink, base_sha: str, place: str) -> tuple[GateReport, str]:
        """Gate one candidate; the second value says, when not empty, why nothing was decided."""
        if link.sha in self._judged:
            return self._judged[link.sha], ""
        report = await self._run(link.sha, place)
        if report.outcome is GateOutcome.COULD_NOT_RUN:
            trouble = await self._control(base_sha, report)
            if trouble:
                return report, trouble
            again = await self._run(link.sha, f"{place}, once more")
            if again.outcome is GateOutcome.COULD_NOT_RUN and not _same_way(report, again):
                return again, f"{_words(report)}, then {_words(again)}; the target itself passes"
            report = again
        self._judged[link.sha] = report
        return report, ""

    async def _control(self, base_sha: str, seen: GateReport) -> str:
        """Gate the target's own tip: "" when it passes, else why nobody is blamed."""
        if base_sha in self._judged:
            return ""
        report = await self._run(base_sha, "control: the target itself")
        if report.outcome is GateOutcome.PASSED:
            self._judged[base_sha] = report
            return ""
        if report.outcome is GateOutcome.FAILED:
            return f"the target itself fails gate {report.gate} (exit {report.exit_code}); before, {_words(seen)}"
        return f"{_words(report)} on the target itself"

    async def _run(self, sha: str, what: str) -> GateReport:
        self.runs += 1
        times = self._runs_at[sha] = self._runs_at.get(sha, 0) + 1
        rig = self._batch.rig
        report = await workflow.execute_activity_method(
            GateActivities.run_gates,
            RunGates(
                rig=rig.name,
                sha=sha,
                gates=rig.gates,
                label=f"{workflow.info().workflow_id}/{sha[:12]}-{times}",
            ),
            summary=f"gates at {sha[:12]} ({what})",
            **options.gates(self._batch.host, timedelta(seconds=sum(gate.timeout_s for gate in rig.gates))),
        )
        self.story.append(f"{what}: {_words(report)}")
        return report


def _same_way(first: GateReport, second: GateReport) -> bool:
    return (first.gate, first.reason) == (second.gate, second.reason)


def _words(report: GateReport) -> str:
    """A report in a few words, for people."""
    if report.outcome is GateOutcome.PASSED:
        return "passed"
    if report.outcome is GateOutcome.FAILED:
        return f"gate {report.gate} failed (exit {report.exit_code})"
    return f"gate {report.gate} could not run ({report.reason or 'no reason given'})"
