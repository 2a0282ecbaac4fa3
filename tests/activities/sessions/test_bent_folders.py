"""What an agent puts in the place of a file or folder of its session stops nothing and leads the town nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.sessions.inbox import PostActivities
from agents import session_folder
from models.job.messages import ObservationKind
from models.supervision.host_requests import DeliverLetter
from tests.activities.sessions.desk import WORKS, Desk, eventually
from tests.activities.sessions.lookout import Lookout
from tests.activities.sessions.test_post import LETTER


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


def letter_to(desk: Desk) -> bool:
    order = DeliverLetter(rig="shop", polecat="toast", bead="sh-1", attempt=1, letter=LETTER)
    return ActivityEnvironment().run(PostActivities(desk.paths).deliver_letter, order).delivered


def test_a_folder_named_as_an_intent_is_none(desk: Desk) -> None:
    desk.start('mkdir -p "${GT_TASK_FILE%/*}/done.json/in"; echo made; exec sleep 600')
    desk.shown("made")
    lookout = Lookout(desk)
    lookout.watch(3)
    assert lookout.said() == []
    desk.end()
    assert desk.pane() is None


def test_an_intent_that_became_a_folder_is_settled(desk: Desk) -> None:
    desk.start(WORKS)
    done = desk.folder() / session_folder.DONE
    eventually(done.exists)
    done.unlink()
    (done / "in").mkdir(parents=True)
    (desk.folder() / session_folder.DONE_TAKEN / "in").mkdir(parents=True)
    desk.settle(session_folder.DONE, refused="no")
    assert not done.exists()
    desk.settle(session_folder.DONE)


def test_gt_done_says_what_stands_in_its_place(desk: Desk) -> None:
    desk.start("echo w > w; git add -A; git commit -qm w; echo ready; exec sleep 600")
    desk.shown("ready")
    (desk.folder() / session_folder.DONE).mkdir()
    told = desk.gt("done")
    assert told.returncode == 5
    assert "is a folder" in told.stderr


def test_a_help_intent_that_became_a_folder_is_settled(desk: Desk) -> None:
    desk.start()
    (desk.folder() / session_folder.HELP / "a.json" / "in").mkdir(parents=True)
    desk.settle("help/a.json")
    assert list((desk.folder() / session_folder.HELP).iterdir()) == []


def test_a_linked_inbox_gets_its_letter_and_nothing_is_written_outside(desk: Desk, outside: Path) -> None:
    desk.start()
    inbox = desk.folder() / session_folder.INBOX
    inbox.rmdir()
    inbox.symlink_to(outside)
    assert letter_to(desk)
    assert list(outside.iterdir()) == []
    assert [file.name for file in inbox.iterdir()] == ["m1.json"]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_linked_session_folder_gets_nothing(desk: Desk, outside: Path, level: int) -> None:
    desk.start()
    folder = [desk.folder(), *desk.folder().parents][level]
    below = desk.folder().relative_to(folder)
    os.rename(folder, folder.with_name("moved"))
    (outside / below / session_folder.INBOX).mkdir(parents=True)
    folder.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    assert not letter_to(desk)
    desk.settle(session_folder.DONE, refused="no")
    desk.end()
    assert [path for path in outside.rglob("*") if path not in before and path.name != ".lock"] == []


def test_linked_intents_lead_nobody_elsewhere(desk: Desk, outside: Path) -> None:
    (outside / "a.json").write_text("{}")
    desk.start()
    help_folder = desk.folder() / session_folder.HELP
    help_folder.rmdir()
    help_folder.symlink_to(outside)
    (desk.folder() / session_folder.DONE).symlink_to(outside / "a.json")
    lookout = Lookout(desk)
    lookout.watch(3)
    assert lookout.said() == []
    assert (outside / "a.json").exists()


def test_an_agent_cannot_choose_what_its_next_attempts_files_overwrite(desk: Desk, outside: Path) -> None:
    (outside / "precious").write_text("kept")
    desk.start()
    following = desk.folder(2)
    following.mkdir()
    for name in (session_folder.TASK, session_folder.FAILURE_LOG, session_folder.GITCONFIG, session_folder.STARTED):
        (following / name).symlink_to(outside / "precious")
    for name in (session_folder.SESSION, session_folder.HEARTBEAT):
        (following / name / "in").mkdir(parents=True)
    (following / session_folder.INBOX).symlink_to(outside)
    started = desk.start(attempt=2)
    assert started.session
    assert (outside / "precious").read_text() == "kept"
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert session_folder.read_json(following / session_folder.SESSION) is not None


def test_a_folder_in_the_locks_place_keeps_nobody_out(desk: Desk) -> None:
    desk.start()
    lock = desk.folder().parents[1] / ".lock"
    lock.unlink()
    (lock / "in").mkdir(parents=True)
    desk.end()
    assert desk.pane() is None


def test_an_end_that_an_agent_has_made_itself_is_written_all_the_same(desk: Desk) -> None:
    desk.start()
    (desk.folder() / session_folder.ENDED).mkdir()
    desk.end()
    assert session_folder.over_because(desk.folder()) == "a test"


def test_the_patrol_hears_an_intent_as_before(desk: Desk) -> None:
    desk.start(WORKS)
    eventually((desk.folder() / session_folder.DONE).exists)
    lookout = Lookout(desk)
    lookout.look()
    assert lookout.only().kind is ObservationKind.DONE
