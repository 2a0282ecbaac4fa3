"""Nothing in a session waits for an answer that nobody gives, and its git config is its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.sessions.tmux import Tmux
from models.ledger.records import Rig
from models.town import TownPaths
from tests.activities.sessions.desk import Desk, eventually

HANGS = "#!/bin/sh\nexec sleep 600\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A person whose every program waits for somebody."""
    home = tmp_path / "home"
    home.mkdir()
    hangs = home / "hangs"
    hangs.write_text(HANGS)
    hangs.chmod(0o755)
    (home / ".gitconfig").write_text(
        f"[user]\n\tname = Ada\n\temail = ada@example.org\n[alias]\n\tsaid = !echo from-home\n"
        f"[core]\n\teditor = {hangs}\n\tpager = {hangs}\n\taskPass = {hangs}\n[sequence]\n\teditor = {hangs}\n"
    )
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "config").write_text("[alias]\n\tsaidtoo = !echo from-xdg\n")
    return home


@pytest.fixture
def desk(town_paths: TownPaths, tmux: Tmux, rig: Rig, home: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    hangs = str(home / "hangs")
    persons = {name: hangs for name in ("EDITOR", "VISUAL", "PAGER", "GIT_EDITOR", "GIT_ASKPASS", "SSH_ASKPASS")}
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in persons.items():
        monkeypatch.setenv(name, value)
    return Desk(town_paths, tmux, rig, {**os.environ, "CI": "true"})


@pytest.fixture(autouse=True)
def ended(desk: Desk) -> Iterator[None]:
    yield
    desk.end_all()


def answer(desk: Desk, script: str) -> str:
    """What a shell agent's script printed, once it has come to its end."""
    place = desk.paths.root.parent / "answer"
    file = desk.paths.root.parent / "agent.sh"
    file.write_text(f"exec >{place}.new 2>&1\n{script}\nmv {place}.new {place}\nexec sleep 600\n")
    desk.start(f"sh {file}")
    eventually(place.exists)
    return place.read_text()


def test_a_rebase_goes_on_without_an_editor(desk: Desk) -> None:
    said = answer(
        desk,
        "echo mine > till.py && git commit -qam mine && git checkout -q HEAD~1 && echo theirs > till.py &&"
        " git commit -qam theirs && git checkout -q - && git rebase -q HEAD@{1}\n"
        "echo both > till.py; git add -A; git rebase --continue; git log -1 --format='subject %s' ; git status -sb",
    )
    assert "subject mine" in said
    assert "rebase in progress" not in said


def test_an_interactive_rebase_keeps_its_list(desk: Desk) -> None:
    said = answer(desk, "git commit -q --allow-empty -m one; git rebase -i --keep-empty HEAD~1; echo code $?")
    assert "code 0" in said


def test_a_commit_without_a_message_aborts_and_says_why(desk: Desk) -> None:
    said = answer(desk, "echo work > work.txt; git add -A; git commit; echo code $?")
    assert "empty commit message" in said
    assert "code 1" in said


def test_a_log_on_the_terminal_ends_without_a_pager(desk: Desk) -> None:
    desk.start("git log; echo the end; exec sleep 600")
    assert "Seed" in desk.shown("the end")


def test_a_remote_that_asks_for_a_name_fails_at_once(desk: Desk, home: Path) -> None:
    (home / "hangs").write_text("#!/bin/sh\nexit 1\n")
    said = answer(desk, "printf 'protocol=https\\nhost=example.invalid\\n\\n' | git credential fill; echo code $?")
    assert "code 128" in said
    assert "terminal prompts disabled" in said


def test_a_persons_own_program_is_not_asked_for_credentials(desk: Desk, home: Path) -> None:
    (home / "hangs").write_text("#!/bin/sh\necho a-token\n")
    said = answer(desk, "printf 'protocol=https\\nhost=example.invalid\\n\\n' | git credential fill")
    assert "a-token" not in said


def test_a_key_with_a_passphrase_fails_at_once_though_there_is_a_terminal(desk: Desk, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(key)], check=True)
    desk.start(f"ssh-keygen -y -f {key}; echo code $?; exec sleep 600")
    assert "code 255" in desk.shown("code")


def test_a_program_that_takes_ci_for_nobody_looking_does_not_see_it(desk: Desk) -> None:
    said = answer(desk, "env")
    assert "\nCI=" not in said
    assert "DEBIAN_FRONTEND=noninteractive" in said


def test_a_person_who_attaches_may_have_an_editor_again(desk: Desk) -> None:
    said = answer(desk, "echo w > w; git add -A; GIT_EDITOR='echo Typed >' git commit -q; git log -1 --format=%s")
    assert "Typed" in said


class TestItsGitConfig:
    def test_an_agent_commits_although_the_person_signs_by_default(self, desk: Desk, home: Path) -> None:
        with (home / ".gitconfig").open("a") as config:
            config.write(f"[commit]\n\tgpgSign = true\n[tag]\n\tgpgSign = true\n[gpg]\n\tprogram = {home}/hangs\n")
        assert "work\n" in answer(
            desk, "echo w > w; git add -A; git commit -qm work; git tag v1; git log -1 --format=%s v1"
        )

    def test_the_persons_files_are_read(self, desk: Desk) -> None:
        said = answer(desk, "git said; git saidtoo; git config --global user.email; git config core.sshCommand")
        assert said.splitlines() == ["from-home", "from-xdg", "ada@example.org", "ssh -o BatchMode=yes"]

    def test_a_persons_own_ssh_command_stays(self, desk: Desk, home: Path) -> None:
        with (home / ".config" / "git" / "config").open("a") as config:
            config.write("[core]\n\tsshCommand = ssh -i mykey\n")
        assert answer(desk, "git config core.sshCommand") == "ssh -i mykey\n"

    def test_what_an_agent_sets_for_all_reaches_nobody_else(self, desk: Desk, home: Path) -> None:
        before = (home / ".gitconfig").read_text()
        said = answer(
            desk, "git config --global pull.rebase true; git config --global alias.said '!echo mine'; git said"
        )
        assert said == "mine\n"
        assert (home / ".gitconfig").read_text() == before
        desk.start("git config pull.rebase; git said; echo end; exec sleep 600", bead="sh-2", polecat="nux")
        eventually(lambda: "end" in desk.tmux.capture("shop--nux", 50))
        assert desk.tmux.capture("shop--nux", 50).split() == ["from-home", "end"]

    def test_what_an_agent_set_is_evidence_and_gone_for_its_next_attempt(self, desk: Desk) -> None:
        answer(desk, "git config --global url.https://evil.invalid/.insteadOf https://")
        desk.end()
        assert "+[url" in desk.evidence()["gitconfig.diff"]
        desk.start("git config --get-regexp url; echo end; exec sleep 600", attempt=2)
        assert "evil" not in desk.shown("end")

    def test_an_agent_that_set_nothing_leaves_no_evidence_of_it(self, desk: Desk) -> None:
        answer(desk, "git status")
        desk.end()
        assert "gitconfig.diff" not in desk.evidence()


def test_loopback_is_reached_without_the_persons_proxy_and_remotes_with_it(
    town_paths: TownPaths, tmux: Tmux, rig: Rig, home: Path, desk: Desk
) -> None:
    desk.environment.update({"HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": "intern.example"})
    said = answer(desk, "env")
    assert "HTTP_PROXY=http://127.0.0.1:9\n" in said
    assert "\nno_proxy=intern.example,localhost,127.0.0.1,::1\n" in said
