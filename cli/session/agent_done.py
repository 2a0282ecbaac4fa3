"""`gt done`: may this work be handed in, and the intent itself. Standard library only (see cli/session/agent.py)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from agents import session_folder
from cli.session.agent_session import Refusal, Session

SHOWN_FILES = 10
_IN_PROGRESS = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "BISECT_LOG": "bisect",
}
_GIT_KEEPS = ("GIT_TRACE", "GIT_CONFIG_", "GIT_EXEC_PATH", "GIT_SSL_")


def checked_head(session: Session, status: str) -> str:
    """The commit that is handed in.

    Raises:
        Refusal: what keeps completed work from being taken. Work that is given back as blocked or
            deferred is taken as it stands; where nothing is to do there must be no commits.
    """
    record = session.record
    worktree, branch, target = Path(str(record["worktree"])), str(record["branch"]), str(record["target"])
    counting = _git(worktree, "rev-list", "--count", "--ignore-missing", "HEAD", *_excluded(record), "--")
    looking = _git(worktree, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal")
    head, current, files = _read_status(_answer(looking, "git status"))
    counted = counting.communicate()[0].decode(errors="replace").strip()
    if status == "nothing-to-do" and counted not in {"", "0"}:
        hint = "hand them in: gt done; or drop them first: git reset --hard origin/" + target
        raise Refusal(f"there is something to land: {branch} has {counted} commits that {target} has not", hint)
    if status != "completed":
        return head
    waiting = _in_progress(worktree)
    if waiting:
        raise Refusal(f"a {waiting} is in progress", f"finish it, or: git {waiting} --abort")
    if current != branch:
        shown = "no branch" if current == "(detached)" else current
        # The commits that it has there must come along.
        merge = "" if counted in {"", "0"} else f" && git merge {head[:12]}"
        raise Refusal(f"the worktree is on {shown}, your work belongs on {branch}", f"git switch {branch}{merge}")
    if files:
        more = f" and {len(files) - SHOWN_FILES} more" if len(files) > SHOWN_FILES else ""
        hint = "commit them (git add -A && git commit), or remove what does not belong to the work"
        raise Refusal(f"uncommitted changes: {', '.join(map(_shown, files[:SHOWN_FILES]))}{more}", hint)
    give_back = 'if there is nothing to change: gt done --status nothing-to-do -m "why"'
    if not head or counted == "0":
        raise Refusal(f"no commits: {branch} has nothing that {target} has not", give_back)
    if head in record.get("rejected", []):
        raise Refusal(f"nothing new: commit {head[:12]} was handed in before and sent back", f"gt prime; {give_back}")
    return head


def is_told_already(session: Session, status: str, head: str) -> bool:
    """Whether the same was handed in before and not refused: saying it again changes nothing."""
    folder = session.folder
    for name in (session_folder.DONE, session_folder.DONE_TAKEN):
        told = session_folder.read_json(folder / name)
        if told is None or told.get(session_folder.TOKEN_KEY) != session.token:
            continue  # somebody else may have put it there
        if (told.get("status"), told.get("head_sha")) == (status, head):
            refusal = session_folder.refusal_name(session_folder.done_intent(str(told.get("id", ""))))
            return not (folder / session_folder.INBOX / f"{refusal}.json").exists()
    return False


def tell(session: Session, intent: dict[str, Any]) -> None:
    """Put the intent on disk for the patrol to hear.

    Raises:
        Refusal: the attempt was ended in this very moment.
    """
    path = session.folder / session_folder.DONE
    if path.is_dir():
        raise Refusal(f"{path} is a folder: your work is told in a file of that name", f"rm -r {path}")
    session_folder.write_json(path, {"id": os.urandom(8).hex(), session_folder.TOKEN_KEY: session.token, **intent})
    try:
        # Whoever ends an attempt marks it first, so one of the two always sees the other.
        session.must_count()
    except Refusal:
        path.unlink(missing_ok=True)
        raise


def _excluded(record: dict[str, Any]) -> list[str]:
    """What the target holds: as the town fetched it last, and as it was at the start."""
    base = str(record.get("base_sha") or "")
    return [f"^refs/remotes/origin/{record['target']}", *([f"^{base}"] if base else [])]


def _git(worktree: Path, *arguments: str) -> subprocess.Popen[bytes]:
    # A hook of git that runs `gt done` must not point these commands at its own index.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(_GIT_KEEPS)
    }
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    argv = ["git", "-C", str(worktree), *arguments]
    return subprocess.Popen(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _answer(process: subprocess.Popen[bytes], what: str) -> str:
    out, err = process.communicate()
    if process.returncode != 0:
        words = err.decode(errors="replace").strip().splitlines() or ["failed"]
        raise Refusal(f"{what}: {words[-1]}", "is the worktree still there? gt hook", "FAILED")
    return out.decode(errors="surrogateescape")


def _read_status(shown: str) -> tuple[str, str, list[str]]:
    """(head, branch, changed and untracked files) out of `git status --porcelain=v2 --branch -z`."""
    head, branch, files = "", "", []
    fields = iter(shown.split("\0"))
    for entry in fields:
        kind = entry[:2]
        if entry.startswith("# branch.oid "):
            head = entry.split(" ", 2)[2].replace("(initial)", "")
        elif entry.startswith("# branch.head "):
            branch = entry.split(" ", 2)[2]
        elif kind == "1 ":
            files.append(entry.split(" ", 8)[8])
        elif kind == "2 ":
            files.append(entry.split(" ", 9)[9])
            next(fields, None)
        elif kind == "u ":
            files.append(entry.split(" ", 10)[10])
        elif kind == "? ":
            files.append(entry[2:])
    return head, branch, files


def _in_progress(worktree: Path) -> str:
    """The git operation that waits to be finished; read off files, which costs no process."""
    try:
        place = (worktree / ".git").read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
        git_dir = worktree / place
    except IsADirectoryError:
        git_dir = worktree / ".git"
    return next((kind for name, kind in _IN_PROGRESS.items() if (git_dir / name).exists()), "")


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)
