"""What the next attempt is told about the last one, in words that an agent can act on."""

from __future__ import annotations

from models.job.messages import Observation, ObservationKind, Verdict, VerdictKind
from models.texts import telling_lines

FILES_LISTED = 50
WITHOUT = "git rebase --onto"
"""in a verdict's words: they say themselves how the branch catches up with a target that was rewritten"""
BY_SIGNAL = "killed by signal"
"""So begins what is seen of a pane whose program a signal has ended."""
_DEADLY = frozenset({6, 9, 11, 15})
"""ABRT, KILL, SEGV, TERM; other codes above 128 are mostly a program's own."""
_SAID, _SAID_CHARACTERS = 3, 300
"""So many of a program's last lines stand in the note's first, which is what the job's story shows."""


def _last_words(lines: list[str]) -> str:
    """The last lines that say something, in one."""
    return " / ".join(telling_lines(lines)[-_SAID:])[-_SAID_CHARACTERS:]


def setup_note(seen: Observation) -> str:
    """No agent was started, because the worktree could not be set up: how, and the last lines."""
    how, *lines = seen.detail.strip().splitlines() or ["it ended"]
    said = [line.strip() for line in lines if line.strip() and not line.startswith("worktree.setup")]
    words = _last_words(said)
    first = f"worktree.setup failed, {how}" + (f": {words}" if words else "")
    return "\n\n".join([first, "\n".join(said)]).strip()


def how_it_died(seen: Observation) -> str:
    """By itself, by a signal, or with its session: what the job's story and the demonstration name as the cause."""
    first = seen.detail.strip().partition("\n")[0]
    if first.startswith(BY_SIGNAL):
        return f"it was {first}"
    if seen.exit_code is None:
        return first or "its session is gone"
    number = seen.exit_code - 128
    # So a shell says of the program that it has started for the agent.
    return f"it ended with exit code {seen.exit_code}" + (f" (signal {number})" if number in _DEADLY else "")


def death_note(seen: Observation, refusal: str) -> str:
    """The agent died or did not respond: how, its last words, and why its work was not taken."""
    # The first line is all that people are told.
    if seen.kind is ObservationKind.UNRESPONSIVE:
        first = f"The agent of attempt {seen.attempt} did not respond any more, and was ended."
    else:
        first = f"The agent of attempt {seen.attempt} died: {how_it_died(seen)}."
        words = _last_words(seen.detail.strip().splitlines()[1:])
        first += f" It said last: {words}" if words else ""
    parts = [f"{first} Its work could not be taken: {refusal}" if refusal else first]
    if seen.detail.strip():
        parts.append(f"Its last lines were:\n\n{seen.detail.strip()}")
    parts.append("Look at what is there in the worktree and go on from it; run `gt done` when all is committed.")
    return "\n\n".join(parts)


def verdict_note(verdict: Verdict, target: str, *, whole: bool = False) -> tuple[str, str]:
    """The Refinery sent the work back: the note's kind and its text.

    Args:
        whole: the work is an integration branch, whose commits must stay as they are.
    """
    catch_up = f"rebase your branch onto origin/{target}"
    if whole:
        catch_up = f"merge origin/{target} into your branch (never rebase it)"
    base = f" (at {verdict.base_sha})" if verdict.base_sha else ""
    if verdict.kind is VerdictKind.CONFLICT:
        files = "\n".join(f"- {name}" for name in verdict.files[:FILES_LISTED])
        more = len(verdict.files) - FILES_LISTED
        parts = [
            f"REWORK_REQUEST: the change does not apply to {target}{base}.",
            f"Conflicting files:\n{files}" + (f"\n- and {more} more" if more > 0 else "") if files else "",
            f"On the other side: what {', '.join(verdict.rivals)} landed." if verdict.rivals else "",
            verdict.detail.strip(),
            "Do that, resolve the conflicts, commit, and run `gt done` again."
            if WITHOUT in verdict.detail
            else f"Run `git fetch origin`, {catch_up}, resolve the conflicts, commit, and run `gt done` again.",
        ]
        return "rework_request", "\n\n".join(part for part in parts if part)
    parts = [
        f"MERGE_FAILED: gate {verdict.gate} failed with the change applied to {target}{base}."
        if verdict.gate
        else f"MERGE_FAILED: the change could not be merged into {target}{base}.",
        f"The last lines of its log:\n\n{verdict.detail.strip()}" if verdict.detail.strip() else "",
        f"The whole log: {verdict.log_path}" if verdict.log_path else "",
        f"Run `git fetch origin`, {catch_up}, repair the cause, commit, "
        "and run `gt done` again. The raw log is in the file named by GT_FAILURE_LOG.",
    ]
    return "merge_failed", "\n\n".join(part for part in parts if part)
