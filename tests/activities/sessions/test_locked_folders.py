"""An agent may lock any folder of its own: that blinds nobody for the others, and keeps nobody from ending it."""

from __future__ import annotations

import time

import pytest

from activities.git.worktree.checkpoints import CheckpointSaver
from activities.sessions.session import Sessions
from agents import session_folder
from models.job.checkpoints import CheckpointOrder
from models.job.health import HealthKind
from models.job.messages import ObservationKind
from tests.activities.sessions.desk import IDLE, Desk
from tests.activities.sessions.lookout import Lookout
from tests.permissions import locked

LEVELS = pytest.mark.parametrize("level", [0, 1, 2], ids=["attempt", "bead", "polecat"])


@pytest.fixture
def lookout(desk: Desk) -> Lookout:
    desk.start(IDLE)
    desk.start(IDLE, bead="sh-2", polecat="nux")
    return Lookout(desk)


@LEVELS
def test_an_attempt_that_is_watched_stays_watched_by_its_session(desk: Desk, lookout: Lookout, level: int) -> None:
    lookout.look()
    with locked([desk.folder(), *desk.folder().parents][level]):
        lookout.watch(10)
        assert set(lookout.last.living) == {"sh-1", "sh-2"}
        assert (lookout.said(), lookout.last.zombies) == ([], ())
        desk.tmux.kill_session("shop--toast")
        lookout.look()
        assert (lookout.only().bead, lookout.only().kind) == ("sh-1", ObservationKind.DIED)
        assert lookout.verdict("sh-2") is HealthKind.HEALTHY


@LEVELS
def test_one_that_a_fresh_scanner_finds_locked_hides_itself_alone_and_only_while_it_is(
    desk: Desk, lookout: Lookout, level: int
) -> None:
    with locked([desk.folder(), *desk.folder().parents][level]):
        lookout.watch(10)
        assert lookout.last.living == ("sh-2",)
        assert lookout.last.zombies == (), "nobody can tell that it was ended"
    lookout.look()
    assert set(lookout.last.living) == {"sh-1", "sh-2"}


@LEVELS
def test_the_work_of_the_others_is_saved(desk: Desk, lookout: Lookout, level: int) -> None:
    saver = CheckpointSaver(desk.paths, "h1")
    order = CheckpointOrder(rig=desk.rig, interval_s=600, max_bytes=1_000_000, remote=False)
    with locked([desk.folder(), *desk.folder().parents][level]):
        assert saver.due(order, time.time() + 1_000) == ["nux"]
    assert saver.due(order, time.time() + 1_000) == ["nux", "toast"]


@LEVELS
def test_the_hosts_open_attempts_are_listed_without_it(desk: Desk, lookout: Lookout, level: int) -> None:
    sessions = Sessions(desk.paths, desk.tmux)
    with locked([desk.folder(), *desk.folder().parents][level]):
        assert sessions.rigs() == {"shop"}
        assert list(sessions.open_folders("shop", "nux")) == [("sh-2", 1)]
        assert list(sessions.open_folders("shop", "toast")) == []
        assert session_folder.over_because(desk.folder(1, "sh-2", "nux")) == ""


@LEVELS
def test_its_attempt_can_be_ended_and_the_next_one_started(desk: Desk, lookout: Lookout, level: int) -> None:
    with locked([desk.folder(), *desk.folder().parents][level]):
        desk.end()
    assert (desk.folder() / session_folder.ENDED).read_text() == "a test\n"
    with locked([desk.folder(), *desk.folder().parents][level]):
        assert desk.start(attempt=2).session == "shop--toast"


@LEVELS
def test_its_worktree_can_be_cleaned_up(desk: Desk, lookout: Lookout, level: int) -> None:
    with locked([desk.folder(), *desk.folder().parents][level]):
        assert desk.clean_up().worktree_freed
    assert (desk.folder() / session_folder.ENDED).exists()
