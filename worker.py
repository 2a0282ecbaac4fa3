"""Composition root of the worker: connects, builds the activities with their clients, polls, drains on SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import Worker

from activities.cycle_checks import RoundActivities
from activities.gates.run import GateActivities
from activities.git.command import use_config
from activities.git.merging.foreign_commits import look_at_target
from activities.git.merging.integration import IntegrationActivities
from activities.git.merging.landing import LandingActivities
from activities.git.worktree.checkpoints import Checkpointer, CheckpointSaver
from activities.git.worktree.parked import ParkedActivities
from activities.git.worktree.worktrees import Worktrees
from activities.host_checks import HostCheckActivities
from activities.interceptor import ActivityConduct
from activities.job_start import JobStartActivities
from activities.job_status_queries import StandingActivities
from activities.ledger import LedgerActivities
from activities.ledger_gc import UpkeepActivities
from activities.notifications import NoticeActivities
from activities.sessions.attempts import AttemptActivities
from activities.sessions.cleanup import CleanupActivities
from activities.sessions.inbox import PostActivities
from activities.sessions.nudging import NudgeActivities
from activities.sessions.scanner import Scanner
from activities.sessions.session_over import SessionOver
from activities.sessions.tmux import Tmux
from activities.sessions.watching import WatchActivities
from activities.supervised import ServiceActivities
from activities.temporal import TownActivities
from activities.verify import VerifyActivities
from ledger.store import Ledger
from models import names
from models.errors import GtError
from models.town import StoreEngine
from services.git_config import write_town_config
from services.notifications.files import AlertFiles
from services.redaction import Redactor
from services.supervisor import guard
from services.supervisor.processes import forbid_tracing, leave_keyring
from services.supervisor.programs import WORKER, lock_path
from services.town import Town, find_town
from services.worker import life, readiness
from services.worker.agent_door import AgentDoor
from services.worker.polling import activities_of, new_worker, run_until_stopped
from workflows.registry import WORKFLOWS
from workflows.shared.sandbox import workflow_runner

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
THREADS = 20
WATCHES = 200
"""Long polls of patrols at once; each waits in the event loop, not in a thread."""


def build_workers(client: Client, town: Town, host_only: bool) -> list[Worker]:
    """One worker a task queue, all on one client."""
    paths, secrets = town.paths, Redactor(town.paths)
    conduct, on_host_conduct = ActivityConduct(secrets.text), ActivityConduct(secrets.text, results=True)
    use_config(paths.git_config)
    tmux, worktrees = Tmux(town.tmux_socket, paths.tmux_server, secrets.text), Worktrees(paths)
    ledger = LedgerActivities(lambda: Ledger.open(town.ledger_url()), town.file.agent, AlertFiles(paths))
    unread_mail = None if host_only else ledger.unread_mail
    attempts = AttemptActivities(paths, tmux, worktrees, unread_mail=unread_mail, tell_over=SessionOver(client).tell)
    on_host = (
        attempts,
        CleanupActivities(paths, tmux, worktrees),
        NudgeActivities(tmux),
        ParkedActivities(paths),
        PostActivities(paths),
        IntegrationActivities(paths),
        LandingActivities(paths, attempts.release_worktree),
    )
    work = [method for owner in on_host for method in activities_of(owner)]
    checkpoints = Checkpointer(CheckpointSaver(paths, town.file.host))
    watch = [
        *activities_of(WatchActivities(Scanner(paths, tmux, town.file.host, clean=secrets.text), checkpoints)),
        *activities_of(HostCheckActivities(town.file.host, paths, tmux)),
    ]
    host, gates = town.file.host, activities_of(GateActivities(paths, secrets.data))
    workers = [
        new_worker(client, names.host_queue(host), work, THREADS, interceptor=on_host_conduct),
        new_worker(
            client, names.gates_queue(host), gates, os.cpu_count() or 1, interceptor=on_host_conduct, threads=False
        ),
        new_worker(client, names.watch_queue(host), watch, WATCHES, interceptor=on_host_conduct, threads=False),
    ]
    if host_only:
        return workers
    rounds = RoundActivities(client, ledger.load_rig, ledger.town_facts, lambda facts: look_at_target(paths, facts))
    # A check-in is a local activity, as are most of a job's writes: they belong to the worker that runs the workflows.
    upkeep = UpkeepActivities(lambda: Ledger.open(town.ledger_url(), create=False), town.ledger_storage())
    verify = VerifyActivities(client, paths, lambda: Ledger.open(town.ledger_url(), create=False))
    starts = JobStartActivities(client, lambda request: asyncio.to_thread(ledger.admit_bead, request))
    of_record = (ledger, starts, upkeep, verify)
    record = [method for owner in of_record for method in activities_of(owner)] + [rounds.check_in]
    of_town = (
        TownActivities(client),
        StandingActivities(client),
        NoticeActivities(town.root, town.tmux_socket),
        ServiceActivities(town),
    )
    control = [method for owner in of_town for method in activities_of(owner)] + [rounds.look_around]
    town_worker = new_worker(
        client, names.TOWN_QUEUE, record, THREADS,
        interceptor=conduct, workflows=WORKFLOWS, runner=workflow_runner(),
    )  # fmt: skip
    control_worker = new_worker(client, names.CONTROL_QUEUE, control, THREADS, interceptor=conduct, threads=False)
    return [*workers, town_worker, control_worker]


async def serve(town: Town, host_only: bool) -> None:
    """Work for the town until SIGTERM or SIGINT."""
    identity = life.worker_identity(town)
    client = await life.connect_patiently(town, identity, life.metrics_runtime(town))
    await life.clear_up_after_predecessor(client, town)
    workers = build_workers(client, town, host_only)
    queues = [(worker.task_queue, worker.task_queue == names.TOWN_QUEUE) for worker in workers]

    def open_ledger() -> Ledger:
        return Ledger.open(town.ledger_url())

    keep = life.register_patiently if host_only else life.keep_started
    beside = [
        life.show_readiness(client, town, identity, queues),
        keep(client, town, open_ledger),
        life.end_without(town),
        AgentDoor(town.paths).serve(),
    ]
    if not host_only:
        beside.append(life.verify_after_start(client))
        if town.file.store.engine is StoreEngine.EMBEDDED:
            beside.append(life.watch_embedded_ledger(client, town))
    await run_until_stopped(workers, beside)
    readiness.retract(town)


def _log_without_secrets(redactor: Redactor) -> None:
    """The log quotes what agents, gates and git have said."""

    class Clean(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return redactor.text(super().format(record))

    for handler in logging.getLogger().handlers:
        handler.setFormatter(Clean(LOG_FORMAT))


def main() -> None:
    parser = argparse.ArgumentParser(description="A worker of a town.")
    parser.add_argument("--town", type=Path)
    parser.add_argument("--host-only", action="store_true", help="only git, sessions and gates of this host")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    try:
        town = find_town(options.town)
        if not town.paths.git_config.exists():
            write_town_config(town.paths)
        guard.enter(lock_path(town, WORKER))
        _log_without_secrets(Redactor(town.paths))
        forbid_tracing()
        leave_keyring()
        asyncio.run(serve(town, options.host_only))
    except GtError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
