"""One merge: a batch of changes becomes a chain, is gated, and lands as far as it is green."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any, NamedTuple

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from models import names
    from models.errors import ErrorCode
    from models.job.messages import Verdict, VerdictKind
    from models.names import WorkflowType
    from models.refinery.gates import GateOutcome, GateReport
    from models.refinery.messages import (
        BuildChain,
        Chain,
        ChainLink,
        DropKind,
        DroppedChange,
        ForeignCommit,
        LandChain,
        LandOutcome,
        LandResult,
        MergeBatch,
        MergeOutcome,
        MergeProgress,
        Rewound,
        TargetRed,
    )
    from models.settings import MergeStyle
    from policies.refinery.merge_failures import may_be_a_change
    from workflows.shared.web_ui import Labels, details

from workflows.refinery.gating import ChainJudge, Judgement, Trouble
from workflows.refinery.hosts import MergeHosts, end_if_cancelled, failure_kind
from workflows.shared.signals import tell

LOOK_AROUND = timedelta(minutes=5)
"""between looks at what takes too long"""
LANDING_GRACE = timedelta(seconds=30)
"""how long a merge that is to end lets a landing under way go on"""
MAX_FILES = 200
"""conflicting files that a verdict names"""
ALREADY_THERE = "already there: the target holds everything that the change does"
BROKEN_CHANGE = "git cannot work with what is in the change"
GONE_CHANGE = "the branch, or the submitted commit, is not on the remote any more"


class Obstacle(NamedTuple):
    """What kept a merge from deciding all of its changes."""

    could_not_run: str = ""
    stalled: str = ""
    target_red: TargetRed | None = None
    stopped: bool = False


@workflow.defn(name=WorkflowType.MERGE)
class MergeWorkflow:
    """Reports one verdict for each change it can decide; the others go back into the queue."""

    @workflow.init
    def __init__(self, batch: MergeBatch) -> None:
        self._batch = batch
        self._place = {change.id: place for place, change in enumerate(batch.changes)}
        self._open = {change.id: change for change in batch.changes}
        self._verdicts: list[Verdict] = []
        self._hosts = MergeHosts((batch.host, *batch.more_hosts), batch.host_timeout_s)
        self._judge = ChainJudge(batch, self._hosts)
        self._labels = Labels()
        self._chain = Chain(base_sha="")
        self._foreign: dict[str, ForeignCommit] = {}
        """by commit"""
        self._rewound: dict[str, Rewound] = {}
        """by the place where the old history was left"""
        self._landed = 0
        self._tip = ""
        """the last commit that landed"""
        self._landing: tuple[str, ...] = ()
        """changes whose landing is under way, or was when the merge had to end"""
        self._stopping = False
        self._blamed = 0

    @workflow.run
    async def run(self, batch: MergeBatch) -> MergeOutcome:
        """Merge the batch.

        Returns:
            The verdicts, and what kept the rest from being decided, if anything did.
        """
        missing = False
        try:
            obstacle = await self._merge_until_stopped()
        except ActivityError as error:
            # What was decided so far stands; the rest is tried again by the queue.
            if is_cancelled_exception(error):
                raise
            obstacle = Obstacle(stalled=str(error.cause or error))
            missing = isinstance(error.cause, ApplicationError) and error.cause.type == ErrorCode.NO_SUCH_BRANCH.value
        except Trouble as trouble:
            obstacle = Obstacle(could_not_run=str(trouble))
        outcome = MergeOutcome(
            verdicts=tuple(self._verdicts),
            could_not_run=obstacle.could_not_run,
            stalled=obstacle.stalled,
            target_red=obstacle.target_red,
            stopped=obstacle.stopped,
            unsure=tuple(change for change in self._landing if change in self._open),
            target_cleared=self._cleared(),
            gate_runs=self._judge.runs,
            landed=self._landed,
            blamed=self._blamed,
            tallies=self._judge.tallies.all,
            commits=self._judge.commits,
            rewound=tuple(self._rewound.values()),
            foreign=tuple(self._foreign.values()),
            target_missing=missing,
        )
        self._show(_result(outcome), "merged" if obstacle == Obstacle() else "stalled")
        return outcome

    @workflow.signal(description="End now: one of these changes is wanted back. What is undecided is merged again")
    def stop(self) -> None:
        self._stopping = True

    async def _merge_until_stopped(self) -> Obstacle:
        """Merge; told to stop, end at once, but for a landing under way: what became of it has to be known."""
        merging = asyncio.create_task(self._merge())
        try:
            await self._watch(merging)
            if not merging.done() and self._landing:
                with contextlib.suppress(TimeoutError):
                    await workflow.wait_condition(
                        lambda: merging.done() or not self._landing,
                        timeout=LANDING_GRACE,
                        timeout_summary="a landing under way is let finish",
                    )
            if not merging.done():
                await _ended(merging)
        except GeneratorExit:
            raise
        except BaseException:
            await _ended(merging)
            raise
        if merging.cancelled() or is_cancelled_exception(merging.exception() or Exception()):
            return Obstacle(stopped=True)
        return merging.result()

    async def _watch(self, merging: asyncio.Task[Obstacle]) -> None:
        """Wait for the end, or for the order to stop; tell people of what takes too long."""
        while not (merging.done() or self._stopping):
            due = workflow.now() + LOOK_AROUND
            try:
                await workflow.wait_condition(
                    lambda: merging.done() or self._stopping,
                    timeout=LOOK_AROUND,
                    timeout_summary="does the merge get on?",
                )
            except TimeoutError:
                waits_for = self._hosts.overdue(LOOK_AROUND, workflow.now() - due)
                if waits_for:
                    self._show(waits_for, "stalled")
                    await self._progress(waits_for)

    async def _merge(self) -> Obstacle:
        """Build, gate and land until the target holds still.

        Raises:
            Trouble: the target, which was red before, cannot be gated.
        """
        most = self._batch.settings.retry_count + 2
        moves = 0
        while moves < most:
            chain = await self._build()
            self._decide_lone_drops(chain)
            if self._batch.red is not None and not self._batch.mends and chain.links:
                red = await self._judge.target_is_red(chain.base_sha)
                if red is not None:
                    return Obstacle(target_red=red)
            landed, result, judgement = await self._judge_and_land(chain)
            if result.outcome is LandOutcome.MOVED:
                moves = 1 if landed else moves + 1
                continue
            self._decide_drops(chain, chain.links[:landed])
            if result.outcome is LandOutcome.REFUSED:
                return Obstacle(stalled=f"the remote refuses {self._batch.target}: {result.detail}")
            if judgement is None:
                return Obstacle()
            return Obstacle(could_not_run=judgement.could_not_run, target_red=judgement.target_red)
        return Obstacle(stalled=f"{self._batch.target} moved {most} times while its gates ran")

    def _cleared(self) -> bool:
        """Whether the gate that was red on the target passes where the target stands now, as far as is known."""
        red, tip = self._batch.red, self._tip or self._chain.base_sha
        return red is not None and self._judge.passes(tip, red.gate)

    async def _build(self) -> Chain:
        self._show("building the chain", "merging")
        order = BuildChain(
            rig=self._batch.rig,
            target=self._batch.target,
            changes=tuple(self._open.values()),
            needs=self._needs(),
            style=MergeStyle(self._batch.settings.style),
            signing_key=self._batch.settings.signing_key,
            git=self._batch.git,
        )
        self._chain = await self._build_without_broken(order)
        self._foreign |= {each.sha: each for each in self._chain.foreign}
        self._rewound |= {each.left_sha: each for each in self._chain.rewound}
        self._show("gating", "merging")
        return self._chain

    async def _build_without_broken(self, order: BuildChain) -> Chain:
        """Build; changes with which no chain can be built go back to their jobs with the reason.

        The builder leaves out by itself what git fails at. This is for what ends the builder: a chain without
        changes is the control, and the culprits are found by halving.
        """
        try:
            return await self._hosts.build(order)
        except ActivityError as error:
            if not _may_be_a_change(error) or not order.changes:
                raise
            broken = await self._unbuildable(order)
            if not broken:
                raise
        for change, words in broken.items():
            self._decide(change, VerdictKind.FAILED, base_sha="", detail=words)
        order = order.model_copy(update={"changes": tuple(self._open.values()), "needs": self._needs()})
        return await self._hosts.build(order)

    async def _unbuildable(self, order: BuildChain) -> dict[str, str]:
        """By change, why no chain can be built with it; nothing where none can be built without changes either."""
        await self._hosts.try_build(order.model_copy(update={"changes": ()}))
        broken: dict[str, str] = {}
        stretches = [order.changes]
        while stretches:
            changes = stretches.pop()
            try:
                await self._hosts.try_build(order.model_copy(update={"changes": changes, "needs": {}}))
            except ActivityError as error:
                if not _may_be_a_change(error):
                    raise
                if len(changes) == 1:
                    broken[changes[0].id] = str(error.cause or error)
                else:
                    middle = len(changes) // 2
                    stretches += [changes[:middle], changes[middle:]]
        return broken

    def _needs(self) -> dict[str, tuple[str, ...]]:
        """What each change needs that is not merged by now: not even a culprit's repaired self is in this merge."""
        merged = {verdict.bead for verdict in self._verdicts if verdict.kind is VerdictKind.MERGED}
        missing = {
            bead: tuple(need for need in needs if need not in merged) for bead, needs in self._batch.needs.items()
        }
        return {bead: needs for bead, needs in missing.items() if needs}

    async def _judge_and_land(self, chain: Chain) -> tuple[int, LandResult, Judgement | None]:
        """Gate the chain, and land its green start as it grows: what is green need not wait for a search.

        Returns:
            How many changes have landed, how the last landing went, and the judgement where it was awaited.
        """
        judging, landed = self._judge.start(chain), 0
        result = LandResult(outcome=LandOutcome.LANDED, target_sha=chain.base_sha)

        def news() -> bool:
            return judging.done() or self._judge.green > landed

        try:
            while result.outcome is LandOutcome.LANDED:
                end_if_cancelled()
                await workflow.wait_condition(news)
                if judging.done():
                    self._blame_culprit(chain, judging.result())
                if self._judge.green == landed:
                    return landed, result, judging.result()
                green = self._judge.green
                result = await self._land(chain, landed, green)
                if result.outcome is LandOutcome.LANDED:
                    landed = green
                    await self._report(unless=judging)
        except GeneratorExit:
            raise  # its run was ended, or put out of the worker's memory: nothing may be awaited any more
        except BaseException:
            await _ended(judging)
            raise
        await _ended(judging)
        return landed, result, None

    async def _report(self, unless: asyncio.Task[Judgement]) -> None:
        """Tell the Refinery of verdicts before the merge is over; it hears them again at the end."""
        if not unless.done():
            await self._progress()

    async def _progress(self, waits_for: str = "") -> None:
        progress = MergeProgress(
            number=self._batch.number,
            verdicts=tuple(self._verdicts),
            target=self._batch.target,
            waits_for=waits_for,
        )
        await tell(names.refinery_id(self._batch.rig.name), "progress", progress)

    async def _land(self, chain: Chain, landed: int, green: int) -> LandResult:
        """Push the green links behind those that have landed; a remote that refuses is asked again a few times."""
        links = chain.links[landed:green]
        base_sha = chain.links[landed - 1].sha if landed else chain.base_sha
        for retry in range(self._batch.settings.retry_count + 1):
            if retry:
                await workflow.sleep(
                    timedelta(seconds=self._batch.settings.retry_delay),
                    summary=f"the remote refused: retry {retry} of {self._batch.settings.retry_count}",
                )
            self._show(f"landing {len(links)} on {self._batch.target}", "merging")
            order = LandChain(rig=self._batch.rig, target=self._batch.target, base_sha=base_sha, links=links)
            self._landing = tuple(link.merge_request for link in links)
            result = await self._hosts.land(order)
            self._landing = ()
            if result.outcome is not LandOutcome.REFUSED:
                break
        if result.outcome is LandOutcome.LANDED:
            self._landed += len(links)
            self._tip = links[-1].sha
            for link in links:
                self._decide(link.merge_request, VerdictKind.MERGED, merged_sha=link.sha, base_sha=chain.base_sha)
        return result

    # --- verdicts -----------------------------------------------------------------------------

    def _decide_lone_drops(self, chain: Chain) -> None:
        """What was dropped for reasons of its own, whatever else is in the chain."""
        for drop in chain.dropped:
            if drop.kind is DropKind.LANDED:
                self._decide(drop.merge_request, VerdictKind.MERGED, merged_sha=drop.sha, base_sha=chain.base_sha)
            elif drop.kind is DropKind.GONE:
                detail = drop.detail or GONE_CHANGE
                self._decide(
                    drop.merge_request, VerdictKind.RETURNED, base_sha=chain.base_sha, detail=detail, gone=True
                )

    def _decide_drops(self, chain: Chain, landed: tuple[ChainLink, ...]) -> None:
        """What was dropped because of what stands before it, once that has landed.

        A change that conflicts with one that did not land may well fit the target as it is: it
        goes back into the queue, because its author would look for a conflict that is not there.
        """
        missing = [self._place[link.merge_request] for link in chain.links[len(landed) :]]
        tip = landed[-1].sha if landed else chain.base_sha
        for drop in chain.dropped:
            if any(place < self._place[drop.merge_request] for place in missing):
                continue
            if drop.kind is DropKind.CONFLICT:
                self._decide_conflict(drop, tip)
            elif drop.kind is DropKind.BROKEN:
                detail = f"{BROKEN_CHANGE}: {drop.detail}"
                self._decide(drop.merge_request, VerdictKind.FAILED, base_sha=tip, detail=detail)
            elif drop.kind is DropKind.EMPTY:
                self._decide(
                    drop.merge_request,
                    VerdictKind.MERGED,
                    merged_sha=drop.sha or tip,
                    base_sha=tip,
                    detail=ALREADY_THERE,
                    already_there=True,
                )

    def _decide_conflict(self, drop: DroppedChange, tip: str) -> None:
        self._decide(
            drop.merge_request,
            VerdictKind.CONFLICT,
            base_sha=tip,
            files=drop.files[:MAX_FILES],
            rivals=drop.rivals,
            detail=drop.detail,
        )

    def _blame_culprit(self, chain: Chain, judgement: Judgement) -> None:
        """What the gates blame stays blamed, whatever becomes of the landing before it."""
        if judgement.culprit is None or chain.links[judgement.green].merge_request not in self._open:
            return
        self._blamed += 1
        self._blame(chain.links[judgement.green], chain.base_sha, judgement.culprit)

    def _blame(self, link: ChainLink, base_sha: str, report: GateReport) -> None:
        reason = report.reason if report.outcome is GateOutcome.COULD_NOT_RUN else f"exit {report.exit_code}"
        self._decide(
            link.merge_request,
            VerdictKind.FAILED,
            base_sha=base_sha,
            gate=report.gate,
            detail=f"{f'gate {report.gate}' if report.gate else 'gates'}: {reason}\n{report.tail}".rstrip(),
            log_path=report.log_path,
        )

    def _decide(
        self,
        merge_request: str,
        kind: VerdictKind,
        *,
        base_sha: str,
        merged_sha: str | None = None,
        gate: str | None = None,
        files: tuple[str, ...] = (),
        rivals: tuple[str, ...] = (),
        detail: str = "",
        log_path: str | None = None,
        gone: bool = False,
        already_there: bool = False,
    ) -> None:
        change = self._open.pop(merge_request, None)
        if change is None:
            return
        self._verdicts.append(
            Verdict(
                merge_request=change.id,
                bead=change.bead,
                attempt=change.attempt,
                kind=kind,
                merged_sha=merged_sha,
                base_sha=base_sha,
                gate=gate,
                files=files,
                rivals=rivals,
                detail=detail,
                log_path=log_path,
                gone=gone,
                already_there=already_there,
                # What was returned may be handed in again: the answer is about this time alone.
                submitted_at=change.submitted_at if kind is VerdictKind.RETURNED else None,
                host=self._hosts.first if kind is VerdictKind.MERGED else None,
            )
        )

    # --- what people see ----------------------------------------------------------------------

    def _show(self, doing: str, state: str) -> None:
        self._labels.show(role="merge", state=state, rig=self._batch.rig.name)
        rows: dict[str, str | int | None] = {
            "target": f"{self._batch.target} at {self._chain.base_sha[:12]}",
            "chain": ", ".join(link.bead for link in self._chain.links),
            "dropped": ", ".join(f"{drop.bead} ({drop.kind})" for drop in self._chain.dropped),
            "gates": "\n".join(self._judge.story) if self._batch.rig.gates else "none: lands ungated",
            "verdicts": ", ".join(f"{verdict.bead} {verdict.kind}" for verdict in self._verdicts),
            "now": doing,
        }
        workflow.set_current_details(
            details(f"Merge {self._batch.number}", rows, f"gt refinery queue --rig {self._batch.rig.name}")
        )


def _may_be_a_change(error: ActivityError) -> bool:
    return not is_cancelled_exception(error) and may_be_a_change(failure_kind(error))


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel it and wait until it has ended, however."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _result(outcome: MergeOutcome) -> str:
    if outcome.target_red:
        return f"the target itself is red: {outcome.target_red.why}"
    if outcome.could_not_run:
        return f"gates could not run: {outcome.could_not_run}"
    if outcome.stalled:
        return f"stalled: {outcome.stalled}"
    return "done"
