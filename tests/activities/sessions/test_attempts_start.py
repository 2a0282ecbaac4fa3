"""Starting an attempt: worktree, folder, session; once, whatever is killed in between."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from activities.sessions import session as session_module
from agents import session_folder
from agents.session_folder import read_json
from models.errors import ErrorCode, GtError
from models.job.messages import AttemptNote
from models.mayor.mail import Message
from tests.activities.sessions.desk import IDLE, Desk, eventually
from tests.activities.workshop import Workshop, git

COUNTS_ITSELF = 'echo started >> "$GT_TOWN/starts"; exec sleep 600'


def starts(desk: Desk) -> int:
    path = desk.paths.root / "starts"
    eventually(lambda: path.exists() and path.read_text())
    return len(path.read_text().splitlines())


def environment_of(desk: Desk) -> dict[str, str]:
    """What the agent of attempt 1 sees."""
    path = desk.paths.root / "environment"
    desk.start(
        'env -0 > "$GT_TOWN/environment.new"; mv "$GT_TOWN/environment.new" "$GT_TOWN/environment"; exec sleep 600'
    )
    eventually(path.exists)
    return dict(line.split("=", 1) for line in path.read_text().split("\0") if "=" in line)


def test_an_agent_runs_in_its_worktree_on_the_beads_branch(desk: Desk) -> None:
    started = desk.start("git branch --show-current; pwd; echo ready; exec sleep 600")
    shown = desk.shown("ready").splitlines()
    assert shown[:2] == ["polecat/sh-1", started.worktree]
    assert (started.session, started.adopted) == ("shop--toast", False)
    assert started.base_sha == git(desk.paths.worktree("shop", "toast"), "rev-parse", "HEAD")


def test_an_agent_is_told_who_it_is_and_where_its_files_are(desk: Desk) -> None:
    seen = environment_of(desk)
    folder = desk.folder()
    own = {name: value for name, value in seen.items() if name.startswith("GT_")}
    assert own == {
        "GT_TOWN": str(desk.paths.root),
        "GT_RIG": "shop",
        "GT_POLECAT": "toast",
        "GT_BEAD": "sh-1",
        "GT_ATTEMPT": "1",
        "GT_BRANCH": "polecat/sh-1",
        "GT_TARGET": "main",
        "GT_TASK_FILE": str(folder / "task.md"),
        "GT_FAILURE_LOG": str(folder / "failure.log"),
    }
    assert seen["PATH"].split(":")[0] == str(desk.paths.bin)
    assert seen["HOME"] == desk.environment["HOME"]
    assert (folder / "failure.log").read_text() == ""


def test_keys_of_the_user_pass_and_those_of_the_town_do_not(desk: Desk) -> None:
    desk.environment |= {
        "ANTHROPIC_API_KEY": "for-the-agent",
        "TEMPORAL_API_KEY": "x",
        "GT_DOLT_PASSWORD": "x",
        "GT_CRASH_POINT": "x",
        "MY_GASTOWN_SECRET": "x",
        "LIB_DOLTLITE_PATH": "x",
        "PYTHONPATH": "/elsewhere",
        "SSH_AUTH_SOCK": "/tmp/agent",
        "LD_PRELOAD": "",
    }
    seen = environment_of(desk)
    assert seen["ANTHROPIC_API_KEY"] == "for-the-agent"
    denied = {"TEMPORAL_API_KEY", "GT_DOLT_PASSWORD", "GT_CRASH_POINT", "MY_GASTOWN_SECRET", "LIB_DOLTLITE_PATH"}
    assert not {*denied, "PYTHONPATH", "SSH_AUTH_SOCK", "LD_PRELOAD"} & set(seen)


def test_what_git_sets_for_one_command_of_the_caller_s_reaches_no_agent(desk: Desk) -> None:
    """`gt up` may have been run by a hook, in a rebase or from an alias."""
    of_a_command = {
        *("GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"),
        *("GIT_EXTERNAL_DIFF", "GIT_LITERAL_PATHSPECS", "GIT_DEFAULT_HASH", "GIT_REFLOG_ACTION"),
    }
    of_the_person = {"GIT_SSL_CAINFO": "/ca.pem", "GIT_AUTHOR_NAME": "Ada"}
    desk.environment |= dict.fromkeys(of_a_command, "/elsewhere") | of_the_person
    seen = environment_of(desk)
    assert not of_a_command & set(seen)
    assert seen.items() >= of_the_person.items()


def test_gt_on_the_agents_path_runs_this_installation_whatever_the_worktree_holds(desk: Desk) -> None:
    prepare = "mkdir cli && echo 'raise SystemExit(99)' > cli/gt.py && touch cli/__init__.py json.py"
    desk.start(f"{prepare}; gt hook; echo exit=$?; exec sleep 600")
    shown = desk.shown("exit=")
    assert "exit=0" in shown
    assert "Fix the till" in shown


def test_the_task_holds_title_description_and_what_was_said(desk: Desk, tmp_path: Path) -> None:
    log = tmp_path / "gate.log"
    log.write_text("one\ntwo\n")
    note = AttemptNote(attempt=1, kind="merge_failed", text="test exited 1\n```\nAssertionError\n```")
    died = AttemptNote(attempt=1, kind="agent_died", text="it ended with exit code 3")
    pane = desk.paths.evidence / "sh-1" / "1" / "pane.txt"
    pane.parent.mkdir(parents=True)
    pane.write_text("last words\n")
    desk.start(attempt=2, notes=(note, died), failure_log=str(log))
    task = (desk.folder(2) / "task.md").read_text()
    assert task.startswith("# sh-1: Fix the till\n\nIt is broken.\n")
    assert "Attempt 1: a gate failed (MERGE_FAILED)\n\n````text\ntest exited 1\n```\nAssertionError\n```\n````" in task
    assert "GT_FAILURE_LOG" in task
    assert task.count(str(pane)) == 1
    assert (desk.folder(2) / "failure.log").read_text() == "one\ntwo\n"


@pytest.mark.parametrize(
    "title",
    [
        "$(touch oops)",
        "`touch oops`",
        "'; touch oops; '",
        "two\n## Lines",
        "\x1b[31mred\x1b[0m",
        "-n",
        "‮drowssap",
        "#{pid}",
    ],
)
def test_a_hostile_title_is_text_and_nothing_else(desk: Desk, title: str) -> None:
    worktree = desk.start('cat "$GT_TASK_FILE" > /dev/null; echo ready; exec sleep 600', title=title).worktree
    desk.shown("ready")
    first, *rest = (desk.folder() / "task.md").read_text().splitlines()
    assert first.startswith("# sh-1: ")
    assert "## Lines" not in rest
    assert not {"\x1b", "\u202e"} & set(first)
    assert not list(Path(worktree).glob("oops"))


def test_an_attempt_that_lives_is_adopted(desk: Desk) -> None:
    desk.start(COUNTS_ITSELF)
    before = desk.pane()
    again = desk.start(COUNTS_ITSELF)
    assert again.adopted
    assert again.base_sha
    assert desk.pane() == before
    assert starts(desk) == 1


def test_an_attempt_that_ran_and_died_is_not_run_again(desk: Desk) -> None:
    desk.start('echo started >> "$GT_TOWN/starts"; exit 1')
    eventually(lambda: (pane := desk.pane()) is not None and pane.dead)
    assert desk.start(COUNTS_ITSELF).adopted
    desk.tmux.kill_server()
    assert desk.start(COUNTS_ITSELF).adopted
    assert desk.pane() is None
    assert starts(desk) == 1


@pytest.mark.parametrize("point", ["attempt.worktree_ready", "attempt.folder_written", "attempt.session_started"])
def test_a_start_that_was_killed_is_finished_and_the_agent_runs_once(desk: Desk, point: str) -> None:
    desk.killed_at(point, "start_attempt", desk.request(COUNTS_ITSELF))
    started = desk.start(COUNTS_ITSELF)
    assert started.adopted == (point == "attempt.session_started")
    pane = eventually(desk.pane)
    assert (pane.alive, pane.bead, pane.attempt) == (True, "sh-1", 1)
    assert (desk.folder() / session_folder.STARTED).exists()
    assert starts(desk) == 1


def test_a_higher_attempt_ends_the_older_one_and_keeps_its_work(desk: Desk) -> None:
    desk.start("echo half > half.txt; echo last words; exec sleep 600")
    desk.shown("last words")
    desk.start(attempt=2)
    pane = eventually(desk.pane)
    assert (pane.alive, pane.attempt) == (True, 2)
    assert (desk.folder(1) / "ended").read_text() == "attempt 2 of sh-1 starts here\n"
    assert "last words" in desk.evidence(1)["pane.txt"]
    assert "half.txt" in desk.evidence(1)["git-status.txt"]
    assert (desk.paths.worktree("shop", "toast") / "half.txt").read_text() == "half\n"


def test_a_session_of_another_bead_under_the_name_is_ended_first(desk: Desk) -> None:
    desk.start("echo other bead; exec sleep 600", bead="sh-2")
    desk.shown("other bead")
    desk.start(bead="sh-1")
    assert eventually(desk.pane).bead == "sh-1"
    assert (desk.folder(bead="sh-2") / "ended").exists()
    assert "other bead" in desk.evidence(bead="sh-2")["pane.txt"]


def test_a_session_that_nobody_knows_is_ended_and_its_text_kept(desk: Desk) -> None:
    desk.tmux.new_session("shop--toast", desk.paths.root.parent, desk.environment, ["sleep", "600"], bead="", attempt=0)
    desk.start()
    assert eventually(desk.pane).bead == "sh-1"
    assert len(list((desk.paths.evidence / "shop--toast").iterdir())) == 1


def test_other_polecats_are_left_alone(desk: Desk) -> None:
    desk.start(bead="sh-2", polecat="nux")
    desk.start(bead="sh-1")
    assert {name: pane.bead for name, pane in desk.tmux.panes().items()} == {"shop--nux": "sh-2", "shop--toast": "sh-1"}


@pytest.mark.parametrize("newer", ["toast", "nux"])
def test_an_attempt_that_was_overtaken_is_not_started(desk: Desk, newer: str) -> None:
    desk.start(attempt=2, polecat=newer)
    assert desk.start(attempt=1).highest_attempt == 2
    assert not desk.folder(1).exists()


def test_an_attempt_that_was_ended_is_not_started_again(desk: Desk) -> None:
    desk.start()
    desk.end()
    assert desk.start().highest_attempt == 1
    assert desk.pane() is None


def test_a_number_that_is_known_from_saved_work_alone_is_not_used_again(desk: Desk, workshop: Workshop) -> None:
    workshop.git("push", "--quiet", "origin", "origin/main:refs/gastown/wip/sh-1/5")
    assert desk.start(attempt=3).highest_attempt == 5
    assert desk.pane() is None
    assert desk.start(attempt=6).highest_attempt == 0


def test_an_attempt_that_was_begun_before_is_found_and_never_begun_again(desk: Desk) -> None:
    assert desk.start(adopt=True).highest_attempt == 1, "there is nothing of it here"
    assert not desk.folder().exists()
    desk.start()
    assert desk.start(adopt=True).adopted
    desk.tmux.kill_server()
    assert desk.start(adopt=True).adopted, "it died: the patrol will say so"
    desk.end()
    assert desk.start(adopt=True).highest_attempt == 1


def test_the_task_says_what_was_restored(desk: Desk, workshop: Workshop) -> None:
    desk.start("echo half > half.txt; echo set; exec sleep 600")
    desk.shown("set")
    desk.clean_up()
    desk.start(attempt=2, polecat="nux", first_attempt=1)
    task = (desk.folder(2, polecat="nux") / session_folder.TASK).read_text()
    assert "## Unfinished work was restored" in task
    assert "work of attempt 1" in task
    assert (desk.paths.worktree("shop", "nux") / "half.txt").read_text() == "half\n"


def test_an_agent_that_is_not_installed_is_named_before_anything_starts(desk: Desk) -> None:
    with pytest.raises(GtError) as refused:
        desk.start("no-such-agent --yes; echo on")
    assert refused.value.code is ErrorCode.AGENT_NOT_FOUND
    assert not refused.value.retryable
    assert "no-such-agent" in refused.value.message
    assert not desk.folder().exists()


def test_a_program_that_was_found_is_looked_for_again_after_a_while(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    finds = session_module._finds

    def noting(before: list[str], word: str, *more: Any) -> bool:
        looked.append(word)
        return finds(before, word, *more)

    monkeypatch.setattr(session_module, "_finds", noting)
    for attempt in (1, 2):
        desk.start(IDLE, attempt=attempt)
    assert len(looked) == 1
    monkeypatch.setattr(session_module, "FOUND_S", 0.0)
    desk.start(IDLE, attempt=3)
    assert len(looked) == 2


def test_a_preset_names_its_program_and_how_to_get_it(desk: Desk, tmp_path: Path) -> None:
    desk.environment["PATH"] = "/usr/bin:/bin"
    with pytest.raises(GtError) as refused:
        desk.start("claude")
    assert "claude" in refused.value.message
    assert "npm install" in refused.value.hint


def test_a_preset_is_handed_the_task(desk: Desk, tmp_path: Path) -> None:
    program = tmp_path / "programs" / "claude"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "args: $*"\nhead -1\nexec sleep 600\n')
    program.chmod(0o755)
    desk.environment["PATH"] = f"{program.parent}:{desk.environment['PATH']}"
    desk.start("claude")
    assert "args: -p --dangerously-skip-permissions\n# sh-1: Fix the till" in desk.shown("# sh-1")


def test_what_the_agent_is_started_with_is_on_record(desk: Desk) -> None:
    desk.start(IDLE)
    record = read_json(desk.folder() / "session.json")
    assert record is not None
    assert (record["agent"], record["branch"], record["target"], record["rejected"]) == (
        IDLE,
        "polecat/sh-1",
        "main",
        [],
    )


def a_letter(id: str, **more: Any) -> Message:
    told: dict[str, Any] = {"sender": "human", "recipient": "shop/toast", "subject": id, "sent_at": datetime.now(UTC)}
    return Message(id=id, **told | more)


def inbox_of(desk: Desk, attempt: int = 1) -> list[str]:
    return sorted(path.stem for path in (desk.folder(attempt) / session_folder.INBOX).glob("*.json"))


def test_an_agent_finds_what_its_polecat_has_not_read(desk: Desk) -> None:
    asked: list[str] = []
    letters = [
        a_letter("words"),
        a_letter("mine", protocol={"kind": "MERGED", "bead": "sh-1", "attempt": 1}),
        a_letter("of-another-bead", protocol={"kind": "MERGED", "bead": "sh-9", "attempt": 1}),
    ]

    def unread(address: str) -> list[Message]:
        asked.append(address)
        return letters

    desk.attempts._unread_mail = unread
    desk.start()
    assert asked == ["shop/toast"]
    assert inbox_of(desk) == ["mine", "words"]


def test_an_agent_starts_though_its_mail_cannot_be_read(desk: Desk) -> None:
    def unread(address: str) -> list[Message]:
        raise GtError(ErrorCode.LEDGER_UNREACHABLE, "the ledger's server does not answer", "gt up")

    desk.attempts._unread_mail = unread
    assert desk.start().session
    assert inbox_of(desk) == []
