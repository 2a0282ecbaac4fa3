"""`bd verify`: every disagreement is planted in a real ledger, a real remote and a real Temporal, and found."""

from __future__ import annotations

import contextlib
import io
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert, text, update
from temporalio.service import RPCError

from ledger.engine import schema
from ledger.store import Ledger
from models import names
from models.job.messages import SlingRequest
from models.ledger.records import BeadStatus, JobState, JobWrite, MergeRequest, MergeRequestState, NewBead, Rig
from models.names import WorkflowType
from models.refinery.messages import QueueStatus
from models.upkeep.verification import SAFE, ProblemKind
from services.town import Town
from tests.cli.conftest import Here, Outcome, git
from tests.cli.living.conftest import on_server
from tests.fault_document import documented
from workflows.refinery.state import RefineryState

pytestmark = pytest.mark.usefixtures("worker")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
ABSENT = "f" * 40


@dataclass
class World:
    """A town, its rig's remote and its Temporal, to plant disagreements in."""

    here: Here
    ledger: Ledger
    rig: Rig
    remote: Path
    server: int
    seed: Path
    town: Town

    def bead(self, title: str = "Fix it", target: str | None = None) -> str:
        return self.ledger.create_bead(NewBead(rig=self.rig.name, title=title, target=target)).id

    def land(self, bead: str, target: str = "main") -> str:
        """Put a commit of that bead on the remote's target, as the Refinery does."""
        message = f"work\n\nBead: {bead}\nPolecat: shop/toast\nChange: {ABSENT}\n"
        git("-C", str(self.seed), "commit", "-q", "--allow-empty", "-m", message)
        git("-C", str(self.seed), "push", "-q", str(self.remote), f"HEAD:refs/heads/{target}")
        return self.tip()

    def tip(self) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.seed), "rev-parse", "HEAD"], capture_output=True, check=True, text=True
        )
        return done.stdout.strip()

    def record(self, bead: str, state: JobState, sequence: int = 1, **changes: Any) -> None:
        """What a job of the bead would write."""
        status = {
            JobState.WAITING: BeadStatus.HOOKED,
            JobState.WORKING: BeadStatus.IN_PROGRESS,
            JobState.SUBMITTED: BeadStatus.SUBMITTED,
            JobState.MERGED: BeadStatus.CLOSED,
            JobState.ABANDONED: BeadStatus.DEFERRED,
        }[state]
        values: dict[str, Any] = {
            "bead": bead, "rig": self.rig.name, "workflow_id": names.polecat_id(self.rig.name, bead), "attempt": 1,
            "sequence": sequence, "at": NOW, "event": state.value, "state": state, "bead_status": status,
        }  # fmt: skip
        self.ledger.record_job([JobWrite(**values | changes)])

    def request(self, bead: str) -> MergeRequest:
        return MergeRequest(
            id=names.merge_request_id(bead, 1), rig=self.rig.name, bead=bead, title="Fix it", polecat="toast",
            attempt=1, branch=names.job_branch(bead), head_sha=ABSENT, target="main", submitted_at=NOW,
        )  # fmt: skip

    def submitted(self, bead: str) -> MergeRequest:
        request = self.request(bead)
        queued: dict[str, Any] = {"merge_request": request, "merge_request_state": MergeRequestState.QUEUED}
        self.record(bead, JobState.SUBMITTED, **queued)
        return request

    def run_job(self, bead: str, rig: str | None = None) -> None:
        """A job that runs until it is told to stop."""
        request = SlingRequest(bead=bead, rig=rig or self.rig.name)

        async def start(client: Any) -> None:
            await client.start_workflow(
                WorkflowType.POLECAT, request, id=names.polecat_id(request.rig, bead), task_queue=names.TOWN_QUEUE
            )

        on_server(self.server, start)
        self.wait_listed(request.rig, bead)

    def wait_listed(self, rig: str, bead: str) -> None:
        from tests.e2e.living_town import wait_until

        async def listed(client: Any) -> bool:
            query = f"WorkflowId = '{names.polecat_id(rig, bead)}' AND ExecutionStatus = 'Running'"
            return [one async for one in client.list_workflows(query)] != []

        wait_until(f"{bead} to be listed", lambda: on_server(self.server, listed))

    def stop_jobs(self) -> None:
        """End this server's jobs, so that the next test finds none."""

        async def stop(client: Any) -> None:
            async for one in client.list_workflows("WorkflowType = 'PolecatWorkflow' AND ExecutionStatus = 'Running'"):
                with contextlib.suppress(RPCError):  # it has ended, and is still listed
                    await client.get_workflow_handle(one.id).terminate()

        async def gone(client: Any) -> bool:
            query = "WorkflowType = 'PolecatWorkflow' AND ExecutionStatus = 'Running'"
            return [one async for one in client.list_workflows(query)] == []

        from tests.e2e.living_town import wait_until

        on_server(self.server, stop)
        wait_until("no job to be listed", lambda: on_server(self.server, gone))

    def start_refinery(self) -> None:
        async def start(client: Any) -> None:
            await client.start_workflow(
                WorkflowType.REFINERY, RefineryState(rig=self.rig.name, paused=True),
                id=names.refinery_id(self.rig.name), task_queue=names.TOWN_QUEUE,
            )  # fmt: skip

        on_server(self.server, start)

    def queue(self) -> list[str]:
        async def ask(client: Any) -> QueueStatus:
            handle = client.get_workflow_handle(names.refinery_id(self.rig.name))
            status: QueueStatus = await handle.query("queue", result_type=QueueStatus)
            return status

        return [item.id for item in on_server(self.server, ask).items]

    def sql(self, statement: Any, commit: bool = True) -> None:
        """Change the ledger behind its own back."""
        if commit:
            self.ledger.write(lambda connection: (connection.execute(statement), "by hand"))
        else:
            with self.ledger._engine.connect() as connection:
                connection.execute(statement)
                connection.commit()

    def verify(self, *argv: str, expect: int | None = None) -> Outcome:
        return self.here.run("bd", "verify", "--grace", "0", "-o", "json", *argv, expect=expect)


@pytest.fixture
def world(here: Here, ledger: Ledger, rig: Rig, remote: Path, server: int, tmp_path: Path, town: Town) -> Any:
    ledger.write(lambda connection: (connection.execute(update(schema.rigs).values(url=str(remote))), "its remote"))
    made = World(here, ledger, ledger.rig(rig.name), remote, server, tmp_path / "seed", town)
    made.stop_jobs()
    yield made
    made.stop_jobs()


# --- what is planted: returns the subject that shall be named ----------------------------------


def closed_not_landed(world: World) -> str:
    bead = world.bead()
    world.record(bead, JobState.MERGED, merged_sha=ABSENT, close_reason="merged")
    return bead


def landed_but_open(world: World) -> str:
    bead = world.bead()
    world.land(bead)
    return bead


def landed_unknown(world: World) -> str:
    """What a bead has landed that was made after the ledger's backup."""
    bead = f"{world.rig.prefix}-zz9"
    world.land(bead)
    return bead


def submitted_not_queued(world: World) -> str:
    bead = world.bead()
    world.start_refinery()
    world.submitted(bead)
    world.run_job(bead)
    return bead


def hooked_without_job(world: World) -> str:
    bead = world.bead()
    world.record(bead, JobState.WAITING)
    return bead


def hooked_and_never_slung(world: World) -> str:
    bead = world.bead()
    world.sql(update(schema.beads).where(schema.beads.c.id == bead).values(status="hooked"))
    return bead


def closed_with_job(world: World) -> str:
    bead = world.bead()
    world.ledger.close_bead(bead, "wontfix")
    world.run_job(bead)
    return bead


def two_jobs(world: World) -> str:
    bead = world.bead()
    world.record(bead, JobState.WORKING)
    world.run_job(bead)
    world.run_job(bead, rig="other")
    return bead


def polecat_without_job(world: World) -> str:
    bead = world.bead()
    world.record(bead, JobState.WORKING, polecat="toast", host="mill")
    world.sql(update(schema.jobs).values(state="abandoned"))
    world.sql(update(schema.beads).values(status="deferred"))
    return f"{world.rig.name}/toast"


def request_without_job(world: World) -> str:
    bead = world.bead()
    request = world.submitted(bead)
    world.sql(update(schema.jobs).values(state="abandoned"))
    world.sql(update(schema.beads).values(status="deferred"))
    return request.id


def dependency_on_nothing(world: World) -> str:
    bead = world.bead()
    world.sql(insert(schema.dependencies).values(bead=bead, needs="sh-gone"))
    return f"{bead} needs sh-gone"


def table_gone(world: World) -> str:
    world.bead()
    world.sql(text("DROP TABLE labels"))
    return "labels"


def column_gone(world: World) -> str:
    world.bead()
    world.sql(text("ALTER TABLE beads DROP COLUMN origin"))
    return "beads.origin"


def index_gone(world: World) -> str:
    world.bead()
    world.sql(text("DROP INDEX beads_by_rig"))
    return "beads"


def unreadable_row(world: World) -> str:
    bead = world.bead()
    world.sql(update(schema.beads).where(schema.beads.c.id == bead).values(status="nonsense"))
    return f"beads {bead}"


def uncommitted_change(world: World) -> str:
    bead = world.bead()
    world.sql(update(schema.beads).where(schema.beads.c.id == bead).values(title="by hand"), commit=False)
    return "beads"


def damaged_file(world: World) -> str:
    world.bead()
    file = world.town.paths.doltlite_file
    world.ledger.close()
    whole = bytearray(file.read_bytes())
    # Everywhere behind its beginning: a single byte may be in what nothing refers to any more.
    for at in range(len(whole) // 2, len(whole), 64):
        whole[at] ^= 0x5A
    file.write_bytes(whole)
    return "ledger"


PLANTED: list[tuple[ProblemKind, Callable[[World], str]]] = [
    (ProblemKind.CLOSED_NOT_LANDED, closed_not_landed),
    (ProblemKind.LANDED_BUT_OPEN, landed_but_open),
    (ProblemKind.LANDED_UNKNOWN, landed_unknown),
    (ProblemKind.SUBMITTED_NOT_QUEUED, submitted_not_queued),
    (ProblemKind.HOOKED_WITHOUT_JOB, hooked_without_job),
    (ProblemKind.HOOKED_WITHOUT_JOB, hooked_and_never_slung),
    (ProblemKind.CLOSED_WITH_JOB, closed_with_job),
    (ProblemKind.TWO_JOBS, two_jobs),
    (ProblemKind.POLECAT_WITHOUT_JOB, polecat_without_job),
    (ProblemKind.REQUEST_WITHOUT_JOB, request_without_job),
    (ProblemKind.DEPENDENCY_ON_NOTHING, dependency_on_nothing),
    (ProblemKind.SCHEMA_DRIFT, table_gone),
    (ProblemKind.SCHEMA_DRIFT, column_gone),
    (ProblemKind.SCHEMA_DRIFT, index_gone),
    (ProblemKind.UNREADABLE_ROW, unreadable_row),
    (ProblemKind.UNCOMMITTED_CHANGE, uncommitted_change),
    (ProblemKind.DAMAGED_FILE, damaged_file),
]


def test_every_disagreement_that_is_known_is_planted() -> None:
    assert {kind for kind, _ in PLANTED} == set(ProblemKind)


@pytest.mark.document("8: 验证数据")
@pytest.mark.parametrize(("kind", "plant"), PLANTED, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_planted_disagreement_is_found_named_and_mended_where_that_is_safe(
    world: World, kind: ProblemKind, plant: Callable[[World], str]
) -> None:
    subject = plant(world)
    outcome = world.verify(expect=1)
    assert (outcome.json["ok"], outcome.json["fixed"], outcome.json["unchecked"]) == (False, [], [])
    assert [(one["kind"], one["subject"]) for one in outcome.json["problems"]] == [(kind, subject)]
    (problem,) = outcome.json["problems"]
    assert problem["command"].split()[0] in {"bd", "gt", "temporal", "echo"}
    assert "Traceback" not in outcome.err
    mended = world.verify("--fix", expect=0 if kind in SAFE else 1)
    assert mended.json["ok"] is (kind in SAFE)
    assert [one["kind"] for one in mended.json["fixed"]] == ([kind] if kind in SAFE else [])
    assert [one["kind"] for one in mended.json["problems"]] == ([] if kind in SAFE else [kind])


def test_a_town_at_work_agrees(world: World) -> None:
    """A job that works, one that is queued, one that is merged, one that was merged and opened again."""
    world.start_refinery()
    working, queued, merged, again = (world.bead(title) for title in ("working", "queued", "merged", "again"))
    world.record(working, JobState.WORKING, polecat="toast", host="mill")
    world.run_job(working)
    request = world.submitted(queued)
    world.run_job(queued)
    on_server(
        world.server,
        lambda client: client.get_workflow_handle(names.refinery_id(world.rig.name)).signal("submit", request),
    )
    for bead in (merged, again):
        world.record(bead, JobState.WORKING)
        sha = world.land(bead)
        world.record(bead, JobState.MERGED, 2, merged_sha=sha, close_reason="merged", detail=sha)
    world.ledger.reopen_bead(again, "once more")
    elsewhere = world.bead(target="next")
    sha = world.land(elsewhere, "next")
    world.record(elsewhere, JobState.MERGED, merged_sha=sha, close_reason="merged", detail=sha)
    assert world.queue() == [request.id]
    assert world.verify(expect=0).json == {"ok": True, "problems": [], "fixed": [], "unchecked": []}
    assert world.here.run(*documented("bd verify")).out == "Dolt, git and Temporal agree\n"


def test_a_landed_bead_is_closed_as_what_landed(world: World) -> None:
    bead = landed_but_open(world)
    world.verify("--fix", expect=0)
    found = world.ledger.bead(bead)
    assert (found.status, found.close_reason, found.merged_sha) == (BeadStatus.CLOSED, "merged", world.tip())


def test_a_landing_that_the_ledger_knows_nothing_of_is_taken_in_by_what_verify_says(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a bead that the ledger has not, which landed twice; and of one that it has as closed without it."""
    absent = landed_unknown(world)
    world.land(absent)
    given_up = world.bead()
    world.ledger.close_bead(given_up, "wontfix")
    world.land(given_up)
    for _ in range(3):
        for problem in world.verify().json["problems"]:
            assert problem["kind"] == ProblemKind.LANDED_UNKNOWN
            type_in(world, problem["command"], monkeypatch)
    world.verify(expect=0)
    assert {world.ledger.bead(bead).close_reason for bead in (absent, given_up)} == {"merged"}


def type_in(world: World, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command line of ours as a shell would: one after another, and what is echoed into the next."""
    for part in command.split(" && "):
        words = shlex.split(part)
        if "|" in words:
            text = SimpleNamespace(buffer=io.BytesIO(words[1].encode()))
            monkeypatch.setattr("cli.beads.exchange.sys", SimpleNamespace(stdin=text))
            words = words[words.index("|") + 1 :]
        world.here.run(*words, expect=None)


def test_a_commit_without_the_refinery_s_trailers_says_nothing(world: World) -> None:
    bead = world.bead()
    git("-C", str(world.seed), "commit", "-q", "--allow-empty", "-m", f"words\n\nBead: {bead}")
    git("-C", str(world.seed), "push", "-q", str(world.remote), "HEAD:main")
    world.verify(expect=0)


def test_what_the_refinery_lacks_is_told_to_it_again(world: World) -> None:
    bead = submitted_not_queued(world)
    world.verify("--fix", expect=0)
    assert world.queue() == [names.merge_request_id(bead, 1)]


def test_a_difference_that_is_gone_after_the_grace_is_not_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's write arrives while the command waits."""
    bead = world.bead()
    world.record(bead, JobState.WORKING)
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        world.run_job(bead)

    monkeypatch.setattr("cli.work.verify.time", SimpleNamespace(sleep=wait))
    assert world.here.run("bd", "verify", "--grace", "3", "-o", "json").json["ok"] is True
    assert waited == [3.0]


def test_a_remote_that_does_not_answer_is_said_and_the_rest_is_compared(world: World) -> None:
    world.sql(update(schema.rigs).values(url="/nowhere/at/all"))
    outcome = world.verify(expect=4)
    assert (outcome.json["ok"], outcome.json["problems"]) == (False, [])
    assert len(outcome.json["unchecked"]) == 1
    assert "warning: not checked: git of" in outcome.err
    dependency_on_nothing(world)
    assert len(world.verify(expect=1).json["problems"]) == 1


def test_without_temporal_the_rest_is_compared(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.town.Town.temporal_address", property(lambda town: "127.0.0.1:9"))
    hooked_without_job(world)
    outcome = world.verify(expect=4)
    assert (outcome.json["problems"], len(outcome.json["unchecked"])) == ([], 1)
    closed_not_landed(world)
    assert [one["kind"] for one in world.verify(expect=1).json["problems"]] == ["closed_not_landed"]
