"""Gating a chain: which of its commits are green, and who is to blame where one is red."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from models.base import Frozen
    from models.refinery.gates import GatedCommit, GateOutcome, GateReport, RunGates
    from models.refinery.messages import Chain, ChainLink, MergeBatch, TargetRed
    from policies.refinery.batching import Knowledge, learn, next_probes, useless
    from policies.refinery.merge_rates import confirming_runs, failure_rate, flakiness, known_commits, record_of

from workflows.refinery.flake_counts import Tallies
from workflows.refinery.hosts import MergeHosts


class Judgement(Frozen):
    """What the gates say of a chain."""

    green: int
    """how many changes from the chain's start may land"""
    culprit: GateReport | None = None
    """set when the change right behind the green ones is to blame"""
    could_not_run: str = ""
    """set when the gates could not decide: nobody is to blame"""
    target_red: TargetRed | None = None
    """set when the target itself is red: nobody is to blame"""


class Trouble(Exception):
    """The gates could not decide about a commit, in these words."""


class TargetIsRed(Exception):
    """The target's own tip fails its gates."""

    def __init__(self, red: TargetRed) -> None:
        super().__init__(red.why)
        self.red = red


_SAID = 160
"""characters of a gate's last line that people are shown with why it could not run"""


class ChainJudge:
    """Runs a batch's gates, never again at a commit whose result is known, confirming runs apart.

    Nobody is blamed before the target is cleared. A red gate is believed where the target's tip, or
    a green start of the chain on it, is known to pass that gate; else the tip is gated as a control,
    once. A tip that landed from here was gated as a candidate and needs none.

    A gate that could not run decides nothing by itself: the control is run whatever is known, since
    the world around the gate may have changed. Where it passes and the candidate fails in the same
    way once more, the change is to blame; in every other case nobody is.

    Attributes:
        green: how many changes from the start of the chain that is being judged may land already.
    """

    def __init__(self, batch: MergeBatch, hosts: MergeHosts) -> None:
        self._batch = batch
        self._hosts = hosts
        self._rate = failure_rate(batch.seen.changes)
        self._known = known_commits(batch.seen, batch.rig.gates, batch.gate)
        """by commit; a report that is not `passed` is one to blame the commit for"""
        self._controls: dict[str, asyncio.Task[GateReport]] = {}
        """by the target's tip"""
        self._runs_at: dict[str, int] = {}
        self.green = 0
        self.tallies = Tallies(batch.rig.gates, batch.settings.confirm_runs, batch.seen)
        self.runs = 0
        self.story: list[str] = []
        """one line per run, for people"""

    @property
    def commits(self) -> tuple[GatedCommit, ...]:
        """What is known of commits, oldest first."""
        return tuple(self._known.values())

    def start(self, chain: Chain) -> asyncio.Task[Judgement]:
        """Begin to look for the chain's green start and, where the chain is red, for the first culprit."""
        self.green = 0
        return asyncio.create_task(self._judge(chain))

    async def _judge(self, chain: Chain) -> Judgement:
        search = self._recall(chain)
        self.green = search.green
        flying: dict[asyncio.Task[GateReport], int] = {}
        try:
            while search.green < search.size and search.culprit(self._confirms(chain, search)) is None:
                for prefix in self._wanted(chain, search, tuple(flying.values())):
                    place = f"{prefix} of {search.size}"
                    flying[asyncio.create_task(self._try(chain.links[prefix - 1], chain, place))] = prefix
                ended, _ = await workflow.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    prefix = flying.pop(task)
                    search = self._learn(search, chain.links[prefix - 1], prefix, task.result())
                self.green = search.green
                pointless = useless(search, flying.values())
                await self._stop([task for task, prefix in flying.items() if prefix in pointless], flying)
            if search.green < search.size:
                # Also a red that an earlier merge has seen.
                await self._clear_target(chain, self._known[chain.links[search.green].sha].report)
        except TargetIsRed as found:
            self._forget_reds(chain)
            return Judgement(green=search.green, target_red=found.red)
        except Trouble as trouble:
            return Judgement(green=search.green, could_not_run=str(trouble))
        except GeneratorExit:
            # Its run was ended or put out of the worker's memory: nothing may be awaited any more.
            flying.clear()
            self._controls.clear()
            raise
        finally:
            await self._stop([*flying, *self._controls.values()], flying)
        if search.green == search.size:
            return Judgement(green=search.green)
        return Judgement(green=search.green, culprit=self._known[chain.links[search.green].sha].report)

    def _recall(self, chain: Chain) -> Knowledge:
        """What is known of the chain before anything is run."""
        search = Knowledge(size=len(chain.links))
        if not self._batch.rig.gates:
            return search.model_copy(update={"green": search.size})
        for prefix, link in enumerate(chain.links, start=1):
            known = self._known.get(link.sha)
            if known is not None and known.report.outcome is GateOutcome.PASSED:
                search = learn(search, prefix, green=True)
            elif known is not None:
                for _ in range(known.reds):
                    search = learn(search, prefix, green=False)
        return search

    def _confirms(self, chain: Chain, search: Knowledge) -> int:
        """How many confirming runs the present suspect needs."""
        if search.suspect is None:
            return 0
        return self._confirming(self._known[chain.links[search.suspect - 1].sha].report.gate)

    def _confirming(self, gate: str | None) -> int:
        seen = self._batch.seen
        return confirming_runs(
            self._batch.settings.confirm_runs, flakiness(record_of(seen, gate)), seen.changes.culprits
        )

    def _wanted(self, chain: Chain, search: Knowledge, flying: tuple[int, ...]) -> tuple[int, ...]:
        settings = self._batch.settings
        return next_probes(
            search,
            self._rate,
            confirms=self._confirms(chain, search),
            runners=settings.max_concurrent,
            flying=flying,
            largest=settings.max_batch,
        )

    def _learn(self, search: Knowledge, link: ChainLink, prefix: int, report: GateReport) -> Knowledge:
        before = self._known.get(link.sha)
        green = report.outcome is GateOutcome.PASSED
        # A gate that could not run at the candidate alone was run there twice: that confirms it.
        reds = 0 if green else 2 if report.outcome is GateOutcome.COULD_NOT_RUN else 1
        if green and before is not None and before.reds:
            self.tallies.flake(before.report, link.sha)
        earlier = before.reds if before is not None else 0
        self._known.pop(link.sha, None)
        self._known[link.sha] = GatedCommit(sha=link.sha, report=report, reds=earlier + reds)
        for _ in range(max(reds, 1)):
            search = learn(search, prefix, green=green)
        return search

    async def _stop(self, tasks: list[asyncio.Task[GateReport]], flying: dict[asyncio.Task[GateReport], int]) -> None:
        """End runs that nobody waits for any more; their gates end on their host too."""
        for task in tasks:
            task.cancel()
            flying.pop(task, None)
        if tasks:
            # Their failures are nobody's concern any more.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _try(self, link: ChainLink, chain: Chain, place: str) -> GateReport:
        """Gate one candidate.

        Raises:
            Trouble: nothing can be said of it.
        """
        report = await self._run(link.sha, place, chain.base_sha)
        if report.outcome is GateOutcome.PASSED:
            return report
        await self._clear_target(chain, report)
        if report.outcome is GateOutcome.FAILED:
            return report
        again = await self._run(link.sha, f"{place}, once more", chain.base_sha)
        if again.outcome is GateOutcome.COULD_NOT_RUN and not _same_way(report, again):
            raise Trouble(f"{_words(report)}, then {_words(again)}; the target itself passes")
        return again

    # --- the target itself --------------------------------------------------------------------

    def passes(self, sha: str, gate: str | None) -> bool:
        """Whether this gate is known to pass at a commit."""
        known = self._known.get(sha)
        return known is not None and _passed(known.report, gate)

    async def target_is_red(self, base_sha: str) -> TargetRed | None:
        """Gate the tip of a target that was red before; None: it is green now.

        Raises:
            Trouble: its gates cannot run.
        """
        try:
            report = await self._control(base_sha)
        except GeneratorExit:
            self._controls.clear()
            raise
        finally:
            await self._stop([*self._controls.values()], {})
        if report.outcome is GateOutcome.COULD_NOT_RUN:
            raise Trouble(f"{_words(report)} on the target itself{_hint(report)}")
        return _red(base_sha, report) if report.outcome is GateOutcome.FAILED else None

    async def _clear_target(self, chain: Chain, seen: GateReport) -> None:
        """Make sure that what a candidate failed at is not the target's own fault.

        Raises:
            TargetIsRed, Trouble: it may well be, so nobody is blamed.
        """
        green = (chain.base_sha, *(link.sha for link in chain.links[: self.green]))
        failed = seen.outcome is GateOutcome.FAILED
        if failed and any(self.passes(sha, seen.gate) for sha in green):
            return
        report = await self._control(chain.base_sha)
        if _passed(report, seen.gate):
            return
        if report.outcome is GateOutcome.COULD_NOT_RUN:
            raise Trouble(f"{_words(report)} on the target itself{_hint(report)}")
        raise TargetIsRed(_red(chain.base_sha, report))

    async def _control(self, base_sha: str) -> GateReport:
        """Gate the target's own tip, once."""
        if base_sha not in self._controls:
            self._controls[base_sha] = asyncio.create_task(self._gate_target(base_sha))
        return await asyncio.shield(self._controls[base_sha])

    async def _gate_target(self, sha: str) -> GateReport:
        report = await self._run(sha, "control: the target itself")
        if report.outcome is GateOutcome.FAILED and self._batch.red is None:
            # A red that is news is confirmed like a suspect's.
            for _ in range(self._confirming(report.gate)):
                again = await self._run(sha, "control, once more")
                if again.outcome is GateOutcome.PASSED:
                    self.tallies.flake(report, sha)
                    report = again
                    break
        if report.passed or report.outcome is GateOutcome.PASSED:
            self._known.pop(sha, None)
            self._known[sha] = GatedCommit(sha=sha, report=report)
        return report

    def _forget_reds(self, chain: Chain) -> None:
        """What was red on a red target says nothing: it is gated anew, also where that turns green as it stands."""
        for link in chain.links:
            known = self._known.get(link.sha)
            if known is not None and known.report.outcome is not GateOutcome.PASSED:
                del self._known[link.sha]

    async def _run(self, sha: str, what: str, base_sha: str = "") -> GateReport:
        self.runs += 1
        times = self._runs_at[sha] = self._runs_at.get(sha, 0) + 1
        rig = self._batch.rig
        setup_s = self._batch.worktree.setup_timeout if self._batch.gate.setup else 0
        longest = timedelta(seconds=setup_s + sum(gate.timeout_s * (gate.retry + 1) for gate in rig.gates))
        order = RunGates(
            rig=rig.name,
            sha=sha,
            gates=rig.gates,
            settings=self._batch.gate,
            worktree=self._batch.worktree,
            sandbox=self._batch.sandbox,
            url=rig.url,
            branch=rig.branch,
            target=self._batch.target,
            base_sha=base_sha,
            label=f"{workflow.info().workflow_id}/{sha[:12]}-{times}",
        )
        report = await self._hosts.gate(order, longest, f"gates at {sha[:12]} ({what})")
        self.tallies.count(report, sha)
        self.story.append(f"{what}: {_words(report)}")
        return report


def _passed(report: GateReport, gate: str | None) -> bool:
    """Whether the report says that this gate passes; one that was skipped has not been asked."""
    if report.outcome is GateOutcome.PASSED:
        return gate not in report.skipped
    return gate in report.passed


def _red(sha: str, report: GateReport) -> TargetRed:
    return TargetRed(sha=sha, gate=report.gate, why=_words(report), tail=report.tail, log_path=report.log_path)


def _same_way(first: GateReport, second: GateReport) -> bool:
    return (first.gate, first.reason) == (second.gate, second.reason)


def _words(report: GateReport) -> str:
    """A report in a few words, for people."""
    if report.outcome is GateOutcome.PASSED:
        return "passed"
    if report.outcome is GateOutcome.FAILED:
        return f"gate {report.gate} failed (exit {report.exit_code})"
    what = f"gate {report.gate}" if report.gate else "gates"
    why = report.reason or "no reason given"
    said = report.tail.strip().splitlines()
    if said:
        # Where no gate is named nothing was run, and no log tells why.
        why = f"{why}: {said[-1][:_SAID] if report.gate else report.tail[:300]}"
    return f"{what} could not run ({why})"


def _hint(report: GateReport) -> str:
    return f"; {report.hint}" if report.hint else ""
