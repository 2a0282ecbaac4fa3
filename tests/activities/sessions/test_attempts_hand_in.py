"""Handing work in, and what is no work: commits, nothing at all, and work whose branch is gone."""

from __future__ import annotations

import json

import pytest

from agents import session_folder
from models.errors import ErrorCode, GtError
from models.job.attempts import WORK_TAKEN, PublishAgain, TakeWork
from tests.activities.sessions.desk import WORKS, Desk, eventually
from tests.activities.workshop import Workshop, git

BRANCH = "refs/heads/polecat/sh-1"
WHY = "the page is slow because of a missing index"


@pytest.fixture
def handed_in(desk: Desk) -> str:
    """The head of an attempt whose work was taken."""
    desk.start(WORKS)
    eventually(lambda: (desk.folder() / session_folder.DONE).exists())
    head = desk.take().head_sha
    assert head is not None
    return head


def again(desk: Desk, head: str) -> PublishAgain:
    return PublishAgain(rig=desk.rig, bead="sh-1", polecat="toast", attempt=1, head_sha=head)


def test_accepted_work_is_published_again_from_the_host_when_its_branch_was_deleted(
    desk: Desk, workshop: Workshop, handed_in: str
) -> None:
    git(workshop.remote, "update-ref", "-d", BRANCH)
    git(workshop.remote, "gc", "--quiet", "--prune=now")
    for _ in range(2):
        taken = desk.attempts.publish_again(again(desk, handed_in))
        assert (taken.accepted, taken.head_sha) == (True, handed_in)
    assert git(workshop.remote, "rev-parse", BRANCH).strip() == handed_in


def test_accepted_work_of_a_living_agent_leaves_its_session_and_its_intent(desk: Desk) -> None:
    desk.start(WORKS)
    eventually(lambda: (desk.folder() / session_folder.DONE).exists())
    taken = desk.take(intent=session_folder.DONE)
    assert (taken.accepted, taken.ended, taken.told) == (True, False, False)
    assert (desk.folder() / session_folder.DONE).exists(), "without it the agent's end would be told as a death"


@pytest.mark.parametrize("point", ["work.pushed", "session.evidence_saved", "session.ended"])
def test_work_of_an_agent_that_has_ended_ends_its_session_and_is_answered_alike_when_the_answer_was_lost(
    desk: Desk, point: str
) -> None:
    desk.start(WORKS.removesuffix("; exec sleep 600"))
    eventually(lambda: (pane := desk.pane()) is not None and pane.dead)
    request = TakeWork(rig=desk.rig, bead="sh-1", polecat="toast", attempt=1, intent=session_folder.DONE)
    desk.killed_at(point, "take_work", request)
    (desk.paths.worktree("shop", "toast") / "late.txt").write_text("after `gt done`: parked with the worktree")
    taken = desk.take(intent=session_folder.DONE)
    assert (taken.accepted, taken.ended, taken.told) == (True, True, True)
    assert desk.pane() is None
    assert session_folder.over_because(desk.folder()) == WORK_TAKEN
    assert "pane.txt" in desk.evidence()


def test_work_of_an_attempt_that_was_ended_for_another_reason_is_not_taken(desk: Desk) -> None:
    desk.start(WORKS)
    eventually(lambda: (desk.folder() / session_folder.DONE).exists())
    desk.end()
    taken = desk.take(intent=session_folder.DONE)
    assert (taken.accepted, taken.reason) == (False, "attempt 1 is over: a test")


def test_work_that_is_refused_is_no_intent_any_more_and_its_agent_hears_why_once(desk: Desk) -> None:
    desk.start()
    folder = session_folder.own_folder(desk.folder())
    session_folder.write_json(folder / session_folder.DONE, {"status": "completed", "id": "d1"}, desk.paths.sessions)
    for _ in range(2):
        refused = desk.take(intent=session_folder.DONE)
        assert not refused.accepted
    assert not (desk.folder() / session_folder.DONE).exists()
    (letter,) = (desk.folder() / session_folder.INBOX).glob("*.json")
    assert json.loads(letter.read_text())["body"] == refused.reason


def test_another_commit_than_the_accepted_one_is_not_handed_in_in_its_place(
    desk: Desk, workshop: Workshop, handed_in: str
) -> None:
    with pytest.raises(GtError) as refused:
        desk.attempts.publish_again(again(desk, "d" * 40))
    assert refused.value.code is ErrorCode.NO_SUCH_BRANCH
    assert not refused.value.retryable


def test_a_remote_that_refuses_the_work_is_heard_out(desk: Desk, workshop: Workshop) -> None:
    rules = [f"rule {number}: every commit is signed by a key of the company" for number in range(30)]
    hook = workshop.remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\n" + "".join(f"echo '{rule}' >&2\n" for rule in rules) + "exit 1\n")
    hook.chmod(0o755)
    desk.start(WORKS)
    eventually(lambda: (desk.folder() / session_folder.DONE).exists())
    with pytest.raises(GtError) as refused:
        desk.take()
    assert refused.value.code is ErrorCode.REMOTE_REFUSED
    told = [line.strip() for line in refused.value.message.splitlines()]
    assert [line.removeprefix("remote: ") for line in told if "rule" in line][-29:] == rules[1:]
    assert any("[remote rejected]" in line for line in told)


def test_a_clean_tree_without_commits_is_told_from_work_that_is_not_finished(desk: Desk) -> None:
    desk.start()
    clean = desk.take()
    assert (clean.accepted, clean.unchanged) == (False, True)
    assert "gt done --status nothing-to-do" in clean.reason
    (desk.paths.worktree("shop", "toast") / "half.txt").write_text("half")
    dirty = desk.take()
    assert (dirty.accepted, dirty.unchanged) == (False, False)


def test_an_agent_without_commits_is_refused_and_told_how_to_close_its_task(desk: Desk) -> None:
    desk.start()
    refused = desk.gt("done", "-m", "answered in a comment")
    assert refused.returncode == 5
    assert "no commits" in refused.stderr
    assert "gt done --status nothing-to-do -m" in refused.stderr


@pytest.mark.parametrize("reason", [(), ("-m", ""), ("-m", "  \n")])
def test_nothing_to_do_wants_a_reason(desk: Desk, reason: tuple[str, ...]) -> None:
    desk.start()
    assert desk.gt("done", "--status", "nothing-to-do", *reason).returncode == 2
    assert not (desk.folder() / session_folder.DONE).exists()


def test_nothing_to_do_is_on_disk_with_its_reason_whatever_lies_about_uncommitted(desk: Desk) -> None:
    desk.start()
    (desk.paths.worktree("shop", "toast") / "notes.txt").write_text("what I looked at")
    done = desk.gt("done", "--status", "nothing-to-do", "-m", WHY, "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "nothing-to-do")
    told = session_folder.read_json(desk.folder() / session_folder.DONE)
    assert told is not None
    assert (told["status"], told["message"]) == ("nothing-to-do", WHY)


def test_nothing_to_do_is_refused_while_there_are_commits(desk: Desk) -> None:
    desk.start("echo work > work.txt && git add -A && git commit -qm Work; echo ready; exec sleep 600")
    desk.shown("ready")
    refused = desk.gt("done", "--status", "nothing-to-do", "-m", WHY)
    assert refused.returncode == 5
    assert "gt done" in refused.stderr
