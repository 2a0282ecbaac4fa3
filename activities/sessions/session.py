"""A polecat's session as a whole: folder, tmux session, programs on PATH, evidence, end.

Plain code without Temporal. Order matters more than anything here: `session.json` before the
tmux session, `started` after it was seen, `ended` before it is killed. So a patrol never takes a
start or an end that is under way for a death.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from activities.crash_points import crash_point
from activities.git.worktree.polecat_repo import PolecatRepo
from activities.git.worktree.worktrees import PreparedWorktree
from activities.sessions.agent_network import REFUSED, make_proxy_folder, proxy_line, relay_words
from activities.sessions.agent_sandbox import agent_plan
from activities.sessions.locked_folders import cleared, reopen, tolerated
from activities.sessions.process_tree import Traces, moment, since_boot_s
from activities.sessions.tmux import PaneFacts, Tmux
from agents import presets, run_setup, session_folder
from agents.environment import agent_environment
from agents.gitconfig import as_bytes, session_gitconfig, written_since
from agents.task import task_text
from agents.tokens import new_token
from models import names
from models.errors import ErrorCode, GtError
from models.job.attempts import StartAttempt
from models.network_list import listed_hosts
from models.settings import listed_commands
from models.texts import one_line, plain
from models.town import TownPaths
from policies.security.network_list import proxy_variables
from services.atomic_files import make_folders, write_whole
from services.locks import exclusive
from services.sandbox import NONE, in_sandbox, required

EVIDENCE_LINES: Final = 2_000
"""How much of a pane is kept."""
EVIDENCE_FILES: Final = 500
"""How many changed files a diff stat names."""

FOUND_S: Final = 60.0
"""So long a program that was found on this host, or in a sandbox, counts as there: looking takes a sandbox."""

REJECTING: Final = frozenset({"merge_failed", "rework_request"})
"""Kinds of notes after which the same commit may not be handed in again."""

_WRITTEN: Final = (
    session_folder.TASK, session_folder.GITCONFIG, session_folder.FAILURE_LOG, session_folder.SESSION,
    session_folder.STARTED, session_folder.DONE, session_folder.DONE_TAKEN, session_folder.TAKEN_HEAD,
    session_folder.HEARTBEAT, session_folder.SETUP, session_folder.SETUP_SCRIPT,
)  # fmt: skip
"""Files of a session folder; before its agent starts nothing else may stand in their places."""

_PANE: Final = "pane.txt"
_GITCONFIG: Final = "gitconfig.diff"
_WRAPPER: Final = '#!/bin/sh\nexec {python} -I -c {code} "$@"\n'
# -I keeps the worktree's own folders off the module path; the root goes last, behind the library.
_LAUNCH: Final = (
    "import sys; sys.path.append({root!r}); sys.argv[0] = {name!r}; from cli.{name} import main; sys.exit(main())"
)


class Sessions:
    """The sessions of this host.

    Args:
        environment: what agents inherit from (see `agents.environment`); the worker's by default.
    """

    def __init__(self, paths: TownPaths, tmux: Tmux, environment: Mapping[str, str] | None = None) -> None:
        self._paths = paths
        self._tmux = tmux
        self._environment = os.environ if environment is None else environment
        self._found: dict[tuple[str, str, str], float] = {}
        """programs of agents that were found, and when"""

    def pane(self, rig: str, polecat: str) -> PaneFacts | None:
        """The agent's pane in this polecat's session, whatever it was started for."""
        return self._tmux.panes().get(names.session_name(rig, polecat))

    def names(self) -> list[str]:
        """Of every session on the town's tmux server."""
        return list(self._tmux.panes())

    def rigs(self) -> set[str]:
        """Those of which there is a session here, or an attempt that nobody has ended."""
        found = {name.partition("--")[0] for name, pane in self._tmux.panes().items() if pane.bead}
        for polecat in self._paths.sessions.glob("*/*/"):
            rig = polecat.parent.name
            if rig not in found and any(self.open_folders(rig, polecat.name)):
                found.add(rig)
        return found

    @contextlib.contextmanager
    def alone(self, rig: str, polecat: str) -> Iterator[None]:
        """Start or end this polecat's session, and nobody else does. What its agents have locked is open then."""
        place = self._paths.sessions / names.valid_rig(rig) / names.valid_polecat(polecat)
        reopen(place, levels=2)
        cleared(place, 1, (".lock",), self._paths.trash)
        with exclusive(place / ".lock"):
            yield

    def open_folders(self, rig: str, polecat: str) -> Iterator[tuple[str, int]]:
        """(bead, attempt) of every attempt of this polecat that nobody has ended."""
        for record in (self._paths.sessions / rig / polecat).glob(f"*/*/{session_folder.SESSION}"):
            folder = record.parent
            if _is_attempt(record) and not os.path.exists(folder / session_folder.ENDED):
                yield folder.parent.name, int(folder.name)

    def newest_attempt(self, rig: str, polecat: str, bead: str) -> int:
        """The highest attempt of `bead` that this polecat ever had here; 0 for none."""
        folder = self._paths.sessions / names.valid_rig(rig) / names.valid_polecat(polecat) / names.valid_bead(bead)
        attempts = [int(one.parent.name) for one in folder.glob(f"*/{session_folder.SESSION}") if _is_attempt(one)]
        return max(attempts, default=0)

    def write_folder(self, request: StartAttempt, worktree: PreparedWorktree) -> Path:
        """Everything the agent's commands and the patrol need; `session.json` comes last.

        The heartbeat and intents of an earlier, killed call stay as they are.
        """
        folder = self._folder(request.rig.name, request.polecat, request.bead, request.attempt)
        # An earlier attempt may have been there before, and have put there what it liked.
        cleared(folder, 3, _WRITTEN, self._paths.trash)
        for name in (session_folder.INBOX, session_folder.HELP):
            session_folder.own_folder(folder / name)
        folder.chmod(0o700)
        has_log = _copy_log(request.failure_log, folder / session_folder.FAILURE_LOG)
        branch = names.job_branch(request.bead)
        task = task_text(
            bead=request.bead,
            title=request.title,
            description=request.description,
            branch=branch,
            target=request.rig.branch,
            attempt=request.attempt,
            notes=request.notes,
            failure_log=has_log,
            panes=self._panes(request),
            restored=worktree.restored.story(worktree.kept) if worktree.restored is not None else "",
        )
        write_whole(folder / session_folder.TASK, task, within=self._paths.sessions)
        gitconfig = session_gitconfig(self._environment)
        write_whole(folder / session_folder.GITCONFIG, as_bytes(gitconfig), within=self._paths.sessions)
        setup = request.worktree.setup.strip()
        if setup:
            write_whole(folder / session_folder.SETUP_SCRIPT, f"{setup}\n", within=self._paths.sessions)
        record = {
            "town": str(self._paths.root),
            "rig": request.rig.name,
            "polecat": request.polecat,
            "bead": request.bead,
            "attempt": request.attempt,
            "title": one_line(request.title),
            "description": plain(request.description),
            "priority": request.priority,
            "type": request.kind.value,
            "may": listed_commands(request.may),
            session_folder.TOKEN_KEY: new_token(),
            "branch": branch,
            "target": request.rig.branch,
            "worktree": str(worktree.path),
            "base_sha": worktree.base_sha,
            "head_sha": worktree.head_sha,
            "rejected": self._rejected(request),
            "session": names.session_name(request.rig.name, request.polecat),
            "agent": one_line(request.agent),
            "gitconfig": gitconfig,
            "sets_up": bool(setup),
            "declares_heartbeat": presets.declares_heartbeat(request.agent),
            "begun": moment(),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # Before the agent's own: whoever has the token has a record here.
        session_folder.write_json(self._paths.record(folder) / session_folder.SESSION, record)
        session_folder.write_json(folder / session_folder.SESSION, record, self._paths.sessions)
        return folder

    def check_agent(self, request: StartAttempt, worktree: Path) -> None:
        """Look for the agent's program, and for its sandbox, before anything of the attempt is written.

        Raises:
            GtError: AGENT_NOT_FOUND; REFUSED without the sandbox that is demanded.
        """
        kind = required(request.sandbox, request.network)
        word = presets.program(presets.command_line(request.agent))
        if not word:
            return
        environment = agent_environment(self._environment, {}, self._paths.bin)
        if not self._finds("host", [], word, worktree, environment):
            message = f"the agent's program {word!r} is not on this host"
            raise GtError(ErrorCode.AGENT_NOT_FOUND, message, presets.install_hint(request.agent))
        if kind != "bwrap":
            return
        plan = agent_plan(self._paths, request, environment)
        before, environment = in_sandbox(kind, plan, request.sandbox, environment)
        # Of what the town has itself an agent sees no program but the town's own.
        place = self._paths.root
        seen = [[path for path in paths if place not in Path(path).parents] for paths in (plan.read, plan.write)]
        if not self._finds(f"{seen} {plan.private}", before, word, worktree, environment):
            message = f"the agent's program {word!r} is on this host, and its sandbox does not show it"
            hint = f"gt config sandbox.read {shlex.quote(os.path.dirname(_where(word, environment)))}"
            raise GtError(ErrorCode.AGENT_NOT_FOUND, message, hint)

    def _finds(self, where: str, before: list[str], word: str, worktree: Path, environment: Mapping[str, str]) -> bool:
        """Whether a shell finds the program; one that was found counts as there for FOUND_S.

        Args:
            where: names all that decides it beside the word and PATH.
        """
        asked = (where, word, environment.get("PATH", ""))
        # A path from the worktree on is another program in each.
        lasts = word.startswith("/") or "/" not in word
        if lasts and time.monotonic() - self._found.get(asked, -FOUND_S) < FOUND_S:
            return True
        found = _finds(before, word, worktree, environment)
        if found and lasts:
            self._found = {key: at for key, at in self._found.items() if time.monotonic() - at < FOUND_S}
            self._found[asked] = time.monotonic()
        return found

    def launch(self, request: StartAttempt, worktree: Path) -> None:
        """Start the agent in its tmux session and note that it was seen.

        Raises:
            GtError: TMUX_FAILED, PROGRAM_MISSING; REFUSED without the sandbox that is demanded.
        """
        rig, bead, attempt = request.rig.name, request.bead, request.attempt
        folder = self._folder(rig, request.polecat, bead, attempt)
        own = {
            "GT_TOWN": str(self._paths.root),
            "GT_RIG": rig,
            "GT_POLECAT": request.polecat,
            "GT_BEAD": bead,
            "GT_ATTEMPT": str(attempt),
            "GT_BRANCH": names.job_branch(bead),
            "GT_TARGET": request.rig.branch,
            "GT_TASK_FILE": str(folder / session_folder.TASK),
            "GT_FAILURE_LOG": str(folder / session_folder.FAILURE_LOG),
            "GIT_CONFIG_GLOBAL": str(folder / session_folder.GITCONFIG),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        environment = agent_environment(self._environment, own, self._paths.bin)
        write_programs(self._paths.bin)
        argv = ["sh", "-c", presets.command_line(request.agent)]
        if request.worktree.setup.strip():
            state, script = folder / session_folder.SETUP, folder / session_folder.SETUP_SCRIPT
            # In the pane, where a person sees it and nothing of ours waits for it; -S: it starts in 10 ms.
            runner = [sys.executable, "-I", "-S", run_setup.__file__, str(state)]
            argv = [*runner, str(request.worktree.setup_timeout), str(script), argv[-1]]
        session = names.session_name(rig, request.polecat)
        kind = required(request.sandbox, request.network)
        if kind != NONE:
            environment["GT_DOOR"] = str(self._paths.door)
            hosts, record, beside = listed_hosts(request.network), self._paths.record(folder), ""
            if hosts:
                make_proxy_folder(record)
                environment |= proxy_variables()
                argv = [*relay_words(record, hosts), *argv]
                beside = proxy_line(record, hosts)
            plan = agent_plan(self._paths, request, environment)
            before, environment = in_sandbox(kind, plan, request.sandbox, environment)
            # In a file: tmux takes 16 KB of words. The town's own, out of the agent's reach.
            script = self._paths.run / "sandboxes" / f"{session}.sh"
            write_whole(script, f"{beside}exec {shlex.join([*before, *argv])}\n")
            argv = ["sh", str(script)]
        self._tmux.new_session(session, worktree, environment, argv, bead=bead, attempt=attempt)
        crash_point("attempt.session_started")
        self.note_started(rig, request.polecat, bead, attempt)

    def note_started(self, rig: str, polecat: str, bead: str, attempt: int) -> None:
        """From now on a missing tmux session means that the agent died."""
        mark = self._folder(rig, polecat, bead, attempt) / session_folder.STARTED
        if not os.path.lexists(mark):
            with tolerated(str(mark)):
                write_whole(mark, "", within=self._paths.sessions)

    def end(self, rig: str, polecat: str, bead: str, attempt: int, cause: str) -> None:
        """Save evidence, mark the attempt as ended, end every process of it. Repeating it changes nothing.

        Only what belongs to this very attempt is touched.
        """
        folder = self._folder(rig, polecat, bead, attempt)
        session = names.session_name(rig, polecat)
        pane = self.pane(rig, polecat)
        mine = _is_for(pane, bead, attempt)
        ended = folder / session_folder.ENDED
        if mine or not session_folder.is_file(ended):
            self._save_evidence(rig, polecat, bead, attempt, mine=mine)
        crash_point("session.evidence_saved")
        if folder.is_dir() and not session_folder.is_file(ended):
            with tolerated(str(ended)):
                cleared(folder, 0, (session_folder.ENDED,), self._paths.trash)
                write_whole(ended, f"{one_line(cause) or 'ended'}\n", within=self._paths.sessions)
        shutil.rmtree(self._paths.record(folder), ignore_errors=True)
        traces = self._traces(pane, rig, polecat, bead, attempt)
        if mine:
            self._tmux.kill_session(session, traces)
        else:
            self._tmux.kill_leftovers(traces)
        crash_point("session.ended")

    def _traces(self, pane: PaneFacts | None, rig: str, polecat: str, bead: str, attempt: int) -> Traces:
        folder = self._folder(rig, polecat, bead, attempt)
        mark = ("GT_TASK_FILE", str(folder / session_folder.TASK))
        others = set(self.open_folders(rig, polecat)) - {(bead, attempt)}
        if others or not (pane is None or _is_for(pane, bead, attempt)):
            return Traces(mark)  # who stands in the worktree may be theirs
        begun = str((record_of(folder) or {}).get("begun", ""))
        return Traces(mark, self._paths.worktree(rig, polecat), since_boot_s(begun))

    def end_unknown(self, pane: PaneFacts) -> None:
        """End a session that holds a polecat's name but was not started for any bead; its text is kept."""
        text = self._tmux.capture(pane.session, EVIDENCE_LINES)
        write_whole(self._paths.evidence / pane.session / f"{pane.pane_pid}.txt", text + "\n")
        self._tmux.kill_session(pane.session)

    def save_evidence(self, rig: str, polecat: str, bead: str, attempt: int) -> Path | None:
        """Pane text and state of the worktree under evidence/<bead>/<attempt>/; what was saved first stays.

        Returns:
            The folder; None where there is nothing to see, now and before.
        """
        return self._save_evidence(rig, polecat, bead, attempt, mine=_is_for(self.pane(rig, polecat), bead, attempt))

    def _save_evidence(self, rig: str, polecat: str, bead: str, attempt: int, *, mine: bool) -> Path | None:
        """As `save_evidence`.

        Args:
            mine: the polecat's session is the attempt's.
        """
        place = self._paths.evidence / names.valid_bead(bead) / str(attempt)
        session = names.session_name(rig, polecat)
        texts = {
            _PANE: self._tmux.capture(session, EVIDENCE_LINES) if mine else "",
            _GITCONFIG: _changed_gitconfig(self._folder(rig, polecat, bead, attempt)),
            REFUSED: self._refused_hosts(self._paths.record(self._folder(rig, polecat, bead, attempt))),
            **self._state_of_worktree(rig, polecat, bead),
        }
        for name, text in texts.items():
            if text.strip() and not (place / name).exists():
                write_whole(place / name, self._tmux.clean(text).rstrip() + "\n")
        return place if place.is_dir() else None

    def _refused_hosts(self, record: Path) -> str:
        """What its proxy would not connect to."""
        with contextlib.suppress(OSError):
            return (record / REFUSED).read_text(encoding="utf-8")
        return ""

    def _state_of_worktree(self, rig: str, polecat: str, bead: str) -> dict[str, str]:
        """While the worktree is this bead's; nothing otherwise. Evidence never stands in the way of an end."""
        repo = PolecatRepo(self._paths, rig, polecat)
        note = repo.note
        if note is None or note.bead != bead or repo.git_dir is None:
            return {}
        texts = {"left-in-git.txt": repo.left_behind()}
        with contextlib.suppress(GtError, OSError):
            view = repo.view()
            given = repo.copy_index("evidence.index")
            status = view.run("status", "--branch", "--short", "--untracked-files=normal", environment=given).text
            if len(status.splitlines()) > 1:
                stat = ("diff", "--stat=120", f"--stat-count={EVIDENCE_FILES}", "HEAD", "--")
                texts["diff-stat.txt"] = view.attempt(*stat, environment=given).text
            texts["git-status.txt"] = f"{status.rstrip()}\n\n{view.attempt('log', '-5', '--oneline').text}"
        return texts

    def _panes(self, request: StartAttempt) -> dict[int, str]:
        """By attempt: the file with what its pane showed last, as far as it ran on this host."""
        places = {
            note.attempt: self._paths.evidence / request.bead / str(note.attempt) / _PANE for note in request.notes
        }
        return {attempt: str(path) for attempt, path in places.items() if path.is_file()}

    def _rejected(self, request: StartAttempt) -> list[str]:
        """Heads that were handed in before and sent back: handing them in again cannot end otherwise."""
        heads = []
        for note in request.notes:
            if note.kind in REJECTING:
                taken = self._folder(request.rig.name, request.polecat, request.bead, note.attempt)
                head = (session_folder.read_json(taken / session_folder.TAKEN_HEAD) or {}).get("head_sha")
                heads += [head] if isinstance(head, str) else []
        return heads

    def _folder(self, rig: str, polecat: str, bead: str, attempt: int) -> Path:
        return self._paths.session(rig, polecat, bead, attempt)


def _finds(before: list[str], word: str, worktree: Path, environment: Mapping[str, str]) -> bool:
    asked = subprocess.run(
        [*before, "sh", "-c", 'command -v "$1"', "sh", word],
        cwd=worktree,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return asked.returncode == 0


def _where(word: str, environment: Mapping[str, str]) -> str:
    return os.path.realpath(shutil.which(word, path=environment.get("PATH")) or word)


def write_programs(folder: Path) -> None:
    """`gt` and `bd` for the PATH of agents: they run this very installation, wherever the agent stands."""
    make_folders(folder)
    root = str(Path(__file__).resolve().parents[2])
    for name in ("gt", "bd"):
        code = _LAUNCH.format(root=root, name=name)
        text = _WRAPPER.format(python=shlex.quote(sys.executable), code=shlex.quote(code))
        path = folder / name
        with contextlib.suppress(FileNotFoundError):
            if path.read_text(encoding="utf-8") == text and os.access(path, os.X_OK):
                continue
        write_whole(path, text, 0o755)


def record_of(folder: Path) -> dict[str, Any] | None:
    """What was written at the attempt's start."""
    return session_folder.read_json(folder / session_folder.SESSION)


def _is_for(pane: PaneFacts | None, bead: str, attempt: int) -> bool:
    return pane is not None and (pane.bead, pane.attempt) == (bead, attempt)


def _is_attempt(record: Path) -> bool:
    return record.parent.name.isdecimal()


def _changed_gitconfig(folder: Path) -> str:
    """What the agent wrote as the user's git config; "" where nothing, or where the town had written none."""
    written = (record_of(folder) or {}).get("gitconfig")
    return written_since(folder / session_folder.GITCONFIG, written) if isinstance(written, str) else ""


def _copy_log(source: str | None, target: Path) -> bool:
    """Whether there is a log; the file is there in any case, because GT_FAILURE_LOG names it."""
    if source is not None:
        with contextlib.suppress(OSError):
            shutil.copyfile(source, target)
            return True
    if not target.exists():
        target.touch(mode=0o600)
    return target.stat().st_size > 0
