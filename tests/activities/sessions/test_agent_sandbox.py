"""An agent in its sandbox: a real session of bubblewrap in a real pane."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import psutil
import pytest

from activities.sessions import process_tree
from models.errors import ErrorCode, GtError
from models.settings import SandboxSettings
from services import sandbox
from tests.activities.sessions.desk import WORKS, Desk, eventually
from tests.sandboxes import open_at


def test_it_works_and_hands_in_and_sees_its_own_work_alone(confined: Desk, tmp_path: Path) -> None:
    (confined.paths.root / "rigs" / "shop").mkdir(parents=True, exist_ok=True)
    (confined.paths.root / "secrets.toml").write_text("dolt = 'secret'")
    look = (
        f"echo home: $(ls -A ~); echo town: $(ls -A {confined.paths.root}); helper; "
        f"cat $HOME/.ssh/id_ed25519; cat {confined.paths.root}/secrets.toml; git log --oneline | wc -l; "
        f"git config user.email; touch {confined.paths.root}/mark; touch {tmp_path}/mark; "
        "echo pids: $(ls -d /proc/[0-9]* | wc -l); "
        "gt heartbeat; gt prime | head -1; gt escalate 'help me'; echo all looked at; "
    )
    confined.start(f"({look}) 2>&1; {WORKS}")
    eventually(lambda: (confined.folder() / "done.json").exists())
    shown = confined.shown("all looked at")
    assert "home: .local\n" in shown
    assert "town: rigs run\n" in shown, shown
    assert "helped" in shown
    assert "toast" in shown
    assert "secret" not in shown.replace("secrets.toml", "")
    assert "Read-only file system" in shown
    assert not (tmp_path / "mark").exists(), "beside its folders it has a /tmp of its own"
    assert int(shown.split("pids: ")[1].split()[0]) < 10
    assert (confined.folder() / "heartbeat").exists()
    assert len(list((confined.folder() / "help").glob("*.json"))) == 1
    assert confined.take().accepted


def test_the_state_of_its_program_is_shared_and_its_settings_are_not(confined: Desk) -> None:
    home = Path(confined.environment["HOME"])
    (home / ".local/bin/claude").write_text(
        "#!/bin/sh\necho new > ~/.claude/.credentials.json; echo bad > ~/.claude/settings.json; echo seen; sleep 600\n"
    )
    (home / ".local/bin/claude").chmod(0o755)
    confined.start("claude -p")
    confined.shown("seen")
    assert (home / ".claude/.credentials.json").read_text() == "new\n"
    assert (home / ".claude/settings.json").read_text() == "{}"


def test_its_program_replaces_files_as_real_ones_do_and_its_configuration_is_a_copy(confined: Desk) -> None:
    """By rename, which the kernel refuses over a file that is mounted by itself."""
    home = Path(confined.environment["HOME"])
    (home / ".claude.json").write_text('{"theme": "dark", "mcpServers": {}}')
    (home / ".claude.json").chmod(0o600)
    (home / ".local/bin/claude").write_text(
        "#!/bin/sh\n"
        'replace() { echo new > "$1.tmp" && mv "$1.tmp" "$1" || exit 9; }\n'
        "cat ~/.claude.json; stat -c ' %a' ~/.claude.json\n"
        "replace ~/.claude/.credentials.json; replace ~/.claude.json; cat ~/.claude.json; echo replaced; sleep 600\n"
    )
    (home / ".local/bin/claude").chmod(0o755)
    confined.start("claude -p")
    assert '{"theme": "dark", "mcpServers": {}} 600\nnew\nreplaced' in confined.shown("replaced")
    assert (home / ".claude/.credentials.json").read_text() == "new\n"
    assert "dark" in (home / ".claude.json").read_text(), "it names commands that the program runs for the person too"


def test_its_daemons_end_with_it_and_its_exit_code_is_told(confined: Desk) -> None:
    mark = f"GT_TEST_MARK={os.getpid()}"
    confined.start(f"env -i {mark} setsid sleep 1000 & sleep 0.2; exit 7")

    def living() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("GT_TEST_MARK") == str(os.getpid()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    pane = eventually(lambda: (pane := confined.pane()) and pane.dead and pane.exit_code is not None and pane)
    assert pane.exit_code == 7
    eventually(lambda: not living())


def test_it_may_clean_up_when_it_is_ended(confined: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "TERM_GRACE_S", 60.0)
    worktree = confined.paths.worktree("shop", "toast")
    confined.start("trap 'echo bye > ended.txt; exit 0' TERM; echo ready; while :; do sleep 0.1; done")
    confined.shown("ready")
    confined.end()
    assert (worktree / "ended.txt").read_text() == "bye\n"
    assert confined.pane() is None


def test_a_person_types_into_it(confined: Desk) -> None:
    confined.start("echo ready; read line; echo heard: $line; sleep 600")
    confined.shown("ready")
    confined.tmux.send_text("shop--toast", "hello there")
    confined.shown("heard: hello there")


def test_without_a_network_there_is_loopback_alone(confined: Desk) -> None:
    links = "echo links: $(tail -n +3 /proc/net/dev | cut -d: -f1); sleep 600"
    confined.start(links, network="none")
    assert "links: lo\n" in confined.shown("links:") + "\n"


def test_what_is_opened_is_seen_and_the_town_cannot_be(confined: Desk, tmp_path: Path) -> None:
    confined.sandbox = open_at(tmp_path, mode="bwrap")
    confined.start(f"touch {tmp_path}/mark; echo town: $(ls {confined.paths.root}); sleep 600")
    assert "town: rigs run" in confined.shown("town:")
    assert (tmp_path / "mark").exists()
    confined.sandbox = open_at(confined.paths.root / "data")
    with pytest.raises(GtError, match=r"sandbox.write opens .*, which is the town's own"):
        confined.start(attempt=2)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("sh /w/a.sh", ["/w/a.sh"]),
        ("cat /w/a; test -e ~/b", ["/w/a", "/h/b"]),
        ("(/w/a&&/w/b)|/w/c", ["/w/a", "/w/b", "/w/c"]),
        ("/w/a<'/w/b; c'#/w/d", ["/w/a", "/w/b; c#/w/d"]),
        ("tool --file=/w/a -- 'sh /w/b;'", ["/w/a"]),
        ("/w/a >/w/b 2>> /w/c >| /w/d &>/w/e", ["/w/a"]),
        ("cat '/w/a", []),
    ],
)
def test_what_a_command_line_names_by_a_full_path_to_read(command: str, named: list[str]) -> None:
    assert sandbox.named_paths(command, Path("/h")) == list(map(Path, named))


@pytest.mark.parametrize(("mode", "shared"), [("auto", True), ("bwrap", False)])
def test_the_scratch_folder_of_a_trial_is_shared_with_its_script(
    confined: Desk, tmp_path: Path, mode: str, shared: bool
) -> None:
    trial = tmp_path / "trial"
    trial.mkdir()
    (trial / "marks").write_text("known\n")
    (trial / "agent.sh").write_text(f"touch {trial}/mark; echo new >> $1; cat $1; echo tried; sleep 600\n")
    confined.sandbox = SandboxSettings(mode=mode)
    confined.start(f"sh {trial}/agent.sh {trial}/marks")
    assert "known" in confined.shown("tried"), "what is named is seen in any case"
    assert (trial / "mark").exists() is shared
    assert ("new" in (trial / "marks").read_text()) is shared


def test_nothing_that_others_run_is_taken_for_a_scratch_folder(tmp_path: Path) -> None:
    home, town = tmp_path / "home", tmp_path / "mine" / "town"
    scripts = [home / "agents" / "a.sh", town / "bin2" / "gt", tmp_path / "mine" / "a.sh", tmp_path / "tools/bin/a.sh"]
    for script in scripts:
        script.parent.mkdir(parents=True, exist_ok=True)
        script.touch()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "a.sh").symlink_to(scripts[0])
    named = [*scripts, tmp_path / "link" / "a.sh", Path("/etc/passwd"), Path(sandbox.__file__), Path("/proc/self/comm")]
    for path in (*named, tmp_path / "nowhere" / "a.sh"):
        assert sandbox.scratch_folders(f"sh {path}", SandboxSettings(), home, town) == [], path


def test_a_program_that_the_sandbox_hides_is_named_with_the_mend(confined: Desk, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "agent").write_text("#!/bin/sh\n")
    (tools / "agent").chmod(0o755)
    confined.environment["PATH"] = f"{tools}:{confined.environment['PATH']}"
    hidden = tools / "linked"
    (confined.paths.root / "tool").parent.mkdir(parents=True, exist_ok=True)
    target = confined.paths.root / "tool"
    target.write_text("#!/bin/sh\n")
    target.chmod(0o755)
    hidden.symlink_to(target)
    with pytest.raises(GtError, match="its sandbox does not show it") as error:
        confined.start("linked now")
    assert error.value.code is ErrorCode.AGENT_NOT_FOUND
    assert "sandbox.read" in error.value.hint


def test_where_it_is_demanded_and_does_not_work_nothing_starts(confined: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_found_to_work", dict)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **more: None if name == "bwrap" else which(name, **more))
    with pytest.raises(GtError, match="and bubblewrap is not installed"):
        confined.start()
    assert confined.pane() is None
    assert sandbox.required(SandboxSettings(mode="auto")) == sandbox.NONE
    assert "NO SANDBOX" in sandbox.standing(SandboxSettings()).in_words()


def test_a_runner_of_the_persons_own_learns_what_may_be_seen(confined: Desk, tmp_path: Path) -> None:
    runner = tmp_path / "runner"
    runner.write_text('#!/bin/sh\necho "in $1, network $2, writes $GT_SANDBOX_WRITE" > "$0.log"\nshift 2\nexec "$@"\n')
    runner.chmod(0o755)
    confined.sandbox = SandboxSettings(command=f"{shlex.quote(str(runner))} {{folder}} {{network}}")
    confined.start("echo started; sleep 600")
    confined.shown("started")
    told = Path(f"{runner}.log").read_text()
    worktree = confined.paths.worktree("shop", "toast")
    assert told == f"in {worktree}, network full, writes {worktree}:{confined.folder()}\n"
