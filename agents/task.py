"""The task file that an agent reads (GT_TASK_FILE): Markdown, made of untrusted text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from models.job.messages import AttemptNote
from models.texts import one_line, plain

_KINDS = {
    "agent_died": "the agent ended without handing in its work",
    "agent_unresponsive": "the agent did not respond any more",
    "setup_failed": "its worktree could not be set up, and no agent ran",
    "merge_failed": "a gate failed (MERGE_FAILED)",
    "rework_request": "the change did not apply (REWORK_REQUEST)",
    "work_refused": "the work was refused",
    "reassigned": "the job was reassigned to you",
    "told": "a message for you",
}
_DIED = frozenset({"agent_died", "agent_unresponsive"})
_FENCE = re.compile(r"`{3,}")


def task_text(
    *,
    bead: str,
    title: str,
    description: str,
    branch: str,
    target: str,
    attempt: int,
    notes: Sequence[AttemptNote],
    failure_log: bool,
    restored: str = "",
    panes: Mapping[int, str] | None = None,
) -> str:
    """Title, task, what was said about earlier attempts, and how to finish.

    Args:
        failure_log: whether the file named by GT_FAILURE_LOG holds a log.
        panes: by attempt: the file with what its pane showed last.
        restored: where uncommitted work in the worktree comes from; "" where there is none of that kind.
    """
    parts = [f"# {bead}: {one_line(title)}", plain(description).strip() or "(no description)"]
    if notes:
        parts.append(f"## What was said about earlier attempts (this is attempt {attempt})")
        parts += [_note(note, (panes or {}).get(note.attempt, "")) for note in notes]
        if failure_log:
            parts.append("The whole log is in the file named by the environment variable `GT_FAILURE_LOG`.")
    if restored:
        parts.append(f"## Unfinished work was restored\n\n{plain(restored).strip()}")
    parts.append(_finish(branch, target))
    return "\n\n".join(parts) + "\n"


def _note(note: AttemptNote, pane: str) -> str:
    heading = f"### Attempt {note.attempt}: {_KINDS.get(note.kind, one_line(note.kind))}"
    if pane and note.kind in _DIED:
        heading += f"\n\nWhat its pane showed last is in `{pane}`."
    text = plain(note.text).strip()
    if not text:
        return heading
    fence = "`" * max([2, *(len(run) for run in _FENCE.findall(text))]) + "`"
    return f"{heading}\n\n{fence}text\n{text}\n{fence}"


def _finish(branch: str, target: str) -> str:
    return f"""## How to finish

- You are in a git worktree of your own, on the branch `{branch}`. Stay on it; never push.
  Your work will be landed on `{target}`.
- Commit everything, then run `gt done`. It answers at once and says what is missing, if anything.
- There is nothing to change in the files: `gt done --status nothing-to-do -m "why"`
  closes the task; the answer may stand there.
- You cannot go on: `gt escalate "what you need"` asks a person while you keep working;
  `gt done --status blocked -m "why"` gives the task back.
- Working long without a commit: run `gt heartbeat` now and then.
  `gt prime` shows this task again, `gt mail inbox` your messages."""
