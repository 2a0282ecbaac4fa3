"""Gates on real processes: what they report, what they see, and that nothing of them stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from activities.gates import process as process_module
from activities.gates import run as gates_module
from activities.gates.process import LOG_LIMIT_BYTES, TAIL_BYTES
from activities.gates.run import GateActivities
from activities.git.merging.landing import LandingActivities
from models.errors import ErrorCode, GtError
from models.ledger.records import GateSpec, Rig
from models.refinery.gates import GateOutcome, GateReport, RunGates
from models.refinery.messages import BuildChain
from models.settings import SandboxSettings
from models.town import TownPaths
from tests.activities.workshop import Workshop, git
from tests.pace import DEADLINE_S
from tests.sandboxes import BARE


@pytest.fixture
def sha(workshop: Workshop, rig: Rig, town_paths: TownPaths) -> str:
    """A candidate commit in the landing clone."""
    request = workshop.change("sh-1", {"check.sh": "exit 0\n", ".gitignore": "*.log\n"})
    chain = LandingActivities(town_paths).build_chain(BuildChain(rig=rig, target="main", changes=(request,)))
    return chain.links[0].sha


def request(sha: str, *commands: str, timeout_s: int = 600, sandbox: SandboxSettings = BARE) -> RunGates:
    specs = tuple(
        GateSpec(name=f"gate{number}", command=command, timeout_s=timeout_s) for number, command in enumerate(commands)
    )
    return RunGates(rig="shop", sha=sha, gates=specs, label="merge/shop/1/tip-1", sandbox=sandbox)


async def run(paths: TownPaths, sha: str, *commands: str, timeout_s: int = 600) -> GateReport:
    """Without a sandbox: what ends the processes of a gate there, is looked at from outside by their ids."""
    return await GateActivities(paths).run_gates(request(sha, *commands, timeout_s=timeout_s))


async def until(condition: Callable[[], bool], what: str, within_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def log_of(report: GateReport) -> bytes:
    return Path(report.log_path or "").read_bytes()


def pid_in(path: Path) -> int:
    return int(path.read_text() or 0) if path.exists() else 0


class TestReport:
    async def test_gates_that_exit_zero_pass(self, town_paths: TownPaths, sha: str) -> None:
        report = await run(town_paths, sha, "sh check.sh", "true")
        assert (report.outcome, report.gate) == (GateOutcome.PASSED, None)

    async def test_a_rig_without_gates_passes(self, town_paths: TownPaths, sha: str) -> None:
        assert (await run(town_paths, sha)).outcome is GateOutcome.PASSED

    @pytest.mark.document("5: 测试失败", "5: 构建失败")
    async def test_the_first_gate_that_fails_decides_and_later_ones_do_not_run(
        self, town_paths: TownPaths, sha: str, tmp_path: Path
    ) -> None:
        report = await run(town_paths, sha, "true", "echo out; echo err >&2; exit 3", f"touch {tmp_path}/ran")
        assert (report.outcome, report.gate, report.exit_code) == (GateOutcome.FAILED, "gate1", 3)
        assert report.tail == "out\nerr"
        assert log_of(report) == b"out\nerr\n"
        assert str(report.log_path).startswith(f"{town_paths.gate_logs('shop')}/merge/")
        assert not (tmp_path / "ran").exists()

    async def test_a_gigabyte_of_output_neither_blocks_nor_fills_the_log(self, town_paths: TownPaths, sha: str) -> None:
        report = await run(town_paths, sha, "yes 0123456789 | head -c 1000000000; echo; echo the end; exit 1")
        assert report.outcome is GateOutcome.FAILED
        assert report.tail.endswith("\nthe end")
        assert len(log_of(report)) <= LOG_LIMIT_BYTES + TAIL_BYTES + 100
        assert log_of(report).endswith(b"the end\n")

    async def test_no_secret_is_in_log_or_tail_though_it_came_in_pieces(self, town_paths: TownPaths, sha: str) -> None:
        token, row = "gh" + "p_" + "a1" * 18, "QUJD" * 16
        pieces = f"printf 'got {token[:9]}'; sleep 0.2; printf '{token[9:]} here\\n'"
        key = f"echo '-----BEGIN PRIVATE KEY-----'; sleep 0.1; echo {row}; sleep 0.1; echo '-----END PRIVATE KEY-----'"
        report = await run(town_paths, sha, f"{pieces}; {key}; echo the end; exit 1")
        assert report.tail == "got [redacted: a GitHub token] here\n[redacted: a private key]\nthe end"
        assert log_of(report).decode().strip() == report.tail

    async def test_a_commit_that_this_host_does_not_have_is_an_error(self, town_paths: TownPaths, sha: str) -> None:
        with pytest.raises(GtError) as caught:
            await run(town_paths, "1234567890" * 4, "true")
        assert caught.value.code is ErrorCode.NOT_FOUND

    async def test_a_label_cannot_leave_the_log_folder(self, town_paths: TownPaths, sha: str) -> None:
        with pytest.raises(GtError) as caught:
            await GateActivities(town_paths).run_gates(
                request(sha, "true").model_copy(update={"label": "merge/../../../x"})
            )
        assert caught.value.code is ErrorCode.INVALID_VALUE


class TestSurroundings:
    async def test_it_sees_the_candidates_files_in_a_clean_detached_repository(
        self, town_paths: TownPaths, sha: str
    ) -> None:
        report = await run(
            town_paths,
            sha,
            'test "$(git rev-parse HEAD)" = ' + sha,
            'test -z "$(git status --porcelain --ignored)" || { git status; exit 1; }',
            "git log --oneline | grep -c . | grep -q 3",
            "! git symbolic-ref -q HEAD",
            "exit 9",
        )
        assert (report.gate, report.exit_code) == ("gate4", 9), report.tail

    async def test_what_one_run_leaves_in_the_work_tree_the_next_does_not_see(
        self, town_paths: TownPaths, sha: str
    ) -> None:
        spoil = (
            "echo changed > till.py; rm README.md; touch untracked built.log; git add -A; git config core.bare true;"
            "mkdir -p ro/x nested && touch ro/x/f && git init -q nested && chmod 555 ro/x ro; echo x > ~/left"
        )
        assert (await run(town_paths, sha, spoil)).outcome is GateOutcome.PASSED
        look = 'test -z "$(git status --porcelain --ignored)" && test ! -e ~/left && ls -A | tr "\\n" " "; exit 1'
        report = await run(town_paths, sha, look)
        assert report.tail.split() == [".git", ".gitignore", "README.md", "check.sh", "till.py"]

    async def test_git_inside_it_cannot_reach_the_landing_clone(self, town_paths: TownPaths, sha: str) -> None:
        before = (town_paths.clone("shop") / "config").read_bytes()
        await run(town_paths, sha, "git config core.hooksPath /evil; git update-ref refs/heads/evil HEAD; git gc -q")
        assert (town_paths.clone("shop") / "config").read_bytes() == before
        assert git(town_paths.clone("shop"), "for-each-ref", "refs/heads") == ""

    async def test_no_credential_reaches_it_and_its_home_is_empty(
        self, town_paths: TownPaths, sha: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("GT_TOWN", "TEMPORAL_API_KEY", "SSH_AUTH_SOCK", "DEPLOY_TOKEN", "AWS_REGION"):
            monkeypatch.setenv(name, "leaked-value")
        report = await run(town_paths, sha, "env; ls -A ~; echo CI=$CI; nice; exit 1")
        assert "leaked-value" not in report.tail
        assert report.tail.splitlines()[-2:] == ["CI=true", str(min(19, os.nice(0) + 5))]

    async def test_two_runs_at_once_do_not_see_each_other(
        self, town_paths: TownPaths, sha: str, tmp_path: Path
    ) -> None:
        places = tmp_path / "places"
        meet = f"pwd >> {places}; touch mine-$$; while [ $(wc -l < {places}) -lt 2 ]; do sleep 0.05; done"
        command = f"{meet}; ls mine-* | wc -l; exit 1"
        reports = await asyncio.gather(run(town_paths, sha, command), run(town_paths, sha, command))
        assert [report.tail.strip() for report in reports] == ["1", "1"]
        assert len(set(places.read_text().split())) == 2


class TestEnding:
    async def test_a_gate_over_its_time_is_ended_though_it_ignores_sigterm(
        self, town_paths: TownPaths, sha: str, tmp_path: Path
    ) -> None:
        command = f"trap '' TERM; echo $$ > {tmp_path}/pid; echo waiting; while :; do sleep 1; done"
        report = await run(town_paths, sha, command, timeout_s=3)
        assert (report.outcome, report.reason, report.tail) == (GateOutcome.COULD_NOT_RUN, "timed_out", "waiting")
        await until(lambda: not lives(pid_in(tmp_path / "pid")), "the gate is gone")

    async def test_a_gate_over_its_time_may_clean_up_on_sigterm(
        self, town_paths: TownPaths, sha: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process_module, "TERM_GRACE_S", DEADLINE_S)
        command = "trap 'echo cleaned; exit 0' TERM; while :; do sleep 0.1; done"
        report = await run(town_paths, sha, command, timeout_s=3)
        assert (report.reason, report.tail.splitlines()[-1]) == ("timed_out", "cleaned")

    async def test_a_daemon_that_keeps_the_output_open_neither_hangs_it_nor_survives(
        self, town_paths: TownPaths, sha: str, tmp_path: Path
    ) -> None:
        command = (
            f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000' & while [ ! -s {tmp_path}/pid ]; do :; done"
        )
        report = await asyncio.wait_for(run(town_paths, sha, command), DEADLINE_S)
        assert report.outcome is GateOutcome.PASSED
        await until(lambda: not lives(pid_in(tmp_path / "pid")), "the daemon ends")

    async def test_a_child_in_the_background_is_ended_with_its_gate(
        self, town_paths: TownPaths, sha: str, tmp_path: Path
    ) -> None:
        report = await run(town_paths, sha, f"sleep 1000 >/dev/null 2>&1 & echo $! > {tmp_path}/pid")
        assert report.outcome is GateOutcome.PASSED
        await until(lambda: not lives(pid_in(tmp_path / "pid")), "the gate is gone")

    async def test_cancelling_ends_everything_it_started(self, town_paths: TownPaths, sha: str, tmp_path: Path) -> None:
        command = f"trap '' TERM; sleep 1000 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/pid; wait; sleep 1000"
        task = asyncio.create_task(run(town_paths, sha, command))
        await until(lambda: pid_in(tmp_path / "pid") > 0, "the gate runs")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not lives(pid_in(tmp_path / "pid")), "the gate is gone")
        await until(lambda: not lives(pid_in(tmp_path / "child")), "its child is gone")


_PROGRAM = """
import asyncio, sys
from pathlib import Path
from activities.gates.run import GateActivities
from models.refinery.gates import RunGates
from models.town import TownPaths
request = RunGates.model_validate_json(sys.stdin.read())
asyncio.run(GateActivities(TownPaths(Path(sys.argv[1]))).run_gates(request))
"""


class TestKilledWorker:
    def in_process(
        self, paths: TownPaths, call: RunGates, tmp_path: Path, point: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(paths.root)],
            input=call.model_dump_json(),
            capture_output=True,
            text=True,
            cwd=Path(gates_module.__file__).parents[2],
            env={**os.environ, "GT_CRASH_POINT": point, "GT_CRASH_MARK": str(tmp_path / "mark")},
            check=False,
        )

    @pytest.mark.parametrize("point", ["gate.checked_out", "gate.started", "gate.finished"])
    async def test_a_killed_worker_leaves_it_to_the_next_to_run_the_gate(
        self, town_paths: TownPaths, sha: str, tmp_path: Path, point: str
    ) -> None:
        call = request(sha, "test -f check.sh && ! test -e twice && touch twice && exit 4")
        assert self.in_process(town_paths, call, tmp_path, point).returncode == -signal.SIGKILL
        report = await GateActivities(town_paths).run_gates(call)
        assert (report.outcome, report.exit_code) == (GateOutcome.FAILED, 4)

    async def test_the_orphan_of_a_killed_worker_is_ended_before_the_next_run(
        self, town_paths: TownPaths, sha: str, tmp_path: Path
    ) -> None:
        orphan = request(sha, f"setsid sleep 1000 & echo $! > {tmp_path}/stray; echo $$ > {tmp_path}/pid; sleep 1000")
        assert self.in_process(town_paths, orphan, tmp_path, "gate.started").returncode == -signal.SIGKILL
        await until(lambda: pid_in(tmp_path / "pid") > 0, "the orphan runs on")
        assert lives(pid_in(tmp_path / "pid"))
        # What init has not collected yet does nothing any more.
        over = r"""over() { ! grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"; }"""
        report = await run(town_paths, sha, f"{over}; over $(cat {tmp_path}/pid) && over $(cat {tmp_path}/stray)")
        assert report.outcome is GateOutcome.PASSED, report.tail
        await until(lambda: not lives(pid_in(tmp_path / "stray")), "what it left is gone")

    async def test_a_process_id_that_was_used_again_is_not_touched(
        self, town_paths: TownPaths, sha: str, bystander: subprocess.Popen[bytes]
    ) -> None:
        folder = town_paths.run / "gates"
        folder.mkdir(parents=True)
        note = f'{{"mark": "of-a-dead-run", "pid": {bystander.pid}, "started": 12345.0}}'
        (folder / "0.json").write_text(note)
        assert (await run(town_paths, sha, "true")).outcome is GateOutcome.PASSED
        assert bystander.poll() is None
        assert not (folder / "0.json").exists()

    @pytest.fixture
    def bystander(self) -> Iterator[subprocess.Popen[bytes]]:
        """A process that has nothing to do with any gate."""
        process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        yield process
        process.kill()
        process.wait()
