"""worktree.copy: untracked files of a person's, like .env, that an agent finds in its worktree and no commit takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.brought_files import exclude
from models.errors import ErrorCode, GtError
from models.settings import WorktreeSettings
from tests.activities.sessions.desk import IDLE, WORKS, Desk, eventually
from tests.activities.workshop import Workshop, git


@pytest.fixture
def files(desk: Desk) -> Path:
    folder = desk.paths.brought_files("shop")
    (folder / "conf").mkdir(parents=True)
    (folder / ".env").write_text("TOKEN=abc\n")
    (folder / "conf" / "local.toml").write_text("debug = true\n")
    (folder / "till.py").write_text("not the tree's\n")
    return folder


def start(desk: Desk, names: str, agent: str = IDLE, attempt: int = 1, source: str = "", setup: str = "") -> None:
    settings = WorktreeSettings(copy_files=names, copy_from=source, setup=setup)
    desk.start(agent, attempt=attempt, worktree=settings)


def test_an_agent_finds_them_before_it_is_set_up(desk: Desk, files: Path) -> None:
    start(
        desk, ".env conf/local.toml", "echo agent; exec sleep 600", setup=". ./.env; cat conf/local.toml; echo $TOKEN"
    )
    shown = desk.shown("agent")
    assert "\ndebug = true\nabc\n" in shown


def test_gt_done_and_git_overlook_them(desk: Desk, files: Path) -> None:
    start(desk, ".env conf/local.toml", f"git status --short; echo looked; {WORKS}")
    eventually((desk.folder() / "done.json").exists)
    assert desk.shown("looked").splitlines()[0] == "looked"
    taken = desk.take()
    assert taken.accepted, taken.reason
    assert desk.worktree_git("ls-tree", "-r", "--name-only", "HEAD").split() == ["README.md", "till.py", "work.txt"]


def test_they_do_not_travel_to_the_remote_with_unfinished_work(desk: Desk, files: Path, workshop: Workshop) -> None:
    start(desk, ".env conf", "echo half > half.txt; echo ready; exec sleep 600")
    desk.shown("ready")
    ref = desk.clean_up().parked_ref
    assert ref is not None
    names = git(workshop.remote, "log", "--format=", "--name-only", "-m", ref)
    assert "half.txt" in names
    assert ".env" not in names
    assert "conf" not in names


def test_the_next_bead_of_a_rig_that_brings_none_finds_none_and_hides_none(desk: Desk, files: Path) -> None:
    start(desk, ".env")
    desk.clean_up()
    desk.start("ls -a; echo end; exec sleep 600", bead="sh-2")
    assert ".env" not in desk.shown("end")
    (desk.paths.worktree("shop", "toast") / ".env").write_text("an agent's own")
    assert desk.worktrees.status(desk.rig, "toast", "sh-2").dirty


def test_what_the_tree_has_itself_stays(desk: Desk, files: Path) -> None:
    start(desk, "till.py")
    assert (desk.paths.worktree("shop", "toast") / "till.py").read_text() == "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"


def test_the_next_attempt_has_them_too_and_keeps_what_the_last_one_changed(desk: Desk, files: Path) -> None:
    start(desk, ".env", "echo MORE=1 >> .env; echo ready; exec sleep 600")
    desk.shown("ready")
    start(desk, ".env", "cat .env; git status --short; echo end; exec sleep 600", attempt=2)
    assert desk.shown("end").split() == ["TOKEN=abc", "MORE=1", "end"]


def test_another_folder_may_be_named(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".env").write_text("mine")
    start(desk, ".env", source=str(tmp_path / "mine"))
    assert (desk.paths.worktree("shop", "toast") / ".env").read_text() == "mine"


@pytest.mark.parametrize("names", ["absent", "../secrets.toml", "/etc/passwd", ".git/config", "a//b"])
def test_what_is_not_there_or_not_below_the_top_is_refused_before_an_agent_starts(
    desk: Desk, files: Path, names: str
) -> None:
    with pytest.raises(GtError) as refused:
        start(desk, names)
    assert refused.value.code in {ErrorCode.REFUSED, ErrorCode.INVALID_VALUE}
    assert not refused.value.traits.retryable
    assert desk.pane() is None


def test_a_link_that_an_agent_left_in_the_way_leads_nowhere(desk: Desk, files: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    desk.start()
    (desk.paths.worktree("shop", "toast") / "conf").symlink_to(outside)
    with pytest.raises(GtError) as refused:
        start(desk, "conf/local.toml", attempt=2)
    assert refused.value.code is ErrorCode.REFUSED
    assert list(outside.iterdir()) == []


def test_a_linked_exclude_file_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept\n")
    info = tmp_path / "tree" / ".git" / "info"
    info.mkdir(parents=True)
    (info / "exclude").symlink_to(outside)
    exclude(tmp_path / "tree", ".env '#odd [name]'")
    exclude(tmp_path / "tree", ".env")
    assert outside.read_text() == "kept\n"
    assert (info / "exclude").read_text() == "/.env\n/\\#odd\\ \\[name]\n"
