"""`gt rig`: what is asked of the remote, and that nothing half made stays."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ledger.store import Ledger
from models.ledger.records import Bead, Rig
from services.town import Town
from tests.cli.conftest import Here, git
from tests.cli.test_beads import start_job
from tests.pace import DEADLINE_S


@pytest.fixture(autouse=True)
def patient_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A remote whose files are not listed in time is not looked into."""
    monkeypatch.setattr("cli.work.remote_look.TREE_S", DEADLINE_S)


class TestAdd:
    def test_it_takes_the_branch_of_the_remote_s_head_and_the_first_letters_as_prefix(
        self, here: Here, remote: Path
    ) -> None:
        outcome = here.run(
            *("gt", "rig", "add", "shop", str(remote), "--gate", "test=pytest -q --k=v", "--gate", "lint=ruff check"),
            *("--max-polecats", "3", "--agent", "true", "-o", "json"),
        )
        made = outcome.json
        assert (made["name"], made["url"], made["prefix"], made["branch"]) == ("shop", str(remote), "sh", "main")
        assert [(gate["name"], gate["command"]) for gate in made["gates"]] == [
            ("test", "pytest -q --k=v"),
            ("lint", "ruff check"),
        ]
        assert (made["max_polecats"], made["agent"]) == (3, "true")
        del made["found"]
        assert here.json("gt", "rig", "list") == [made]

    def test_a_person_s_rules_for_new_and_for_bare_repositories_are_not_in_its_way(
        self, here: Here, remote: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rules = {"safe.bareRepository": "explicit", "init.defaultObjectFormat": "sha256", "core.hooksPath": "/nowhere"}
        for number, (key, value) in enumerate(rules.items()):
            monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
            monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
        monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(rules)))
        monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
        monkeypatch.setenv("GIT_AUTHOR_DATE", "none of git's")
        assert here.json("gt", "rig", "add", "shop", str(remote))["found"]["push"] is True

    def test_a_person_s_own_ssh_command_is_used(self, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
        monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
        monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.sshCommand")
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", "echo Permission denied to my own ssh >&2; false")
        outcome = here.run("gt", "rig", "add", "shop", "ssh://example.invalid/shop.git", expect=None)
        assert "my own ssh" in outcome.err

    def test_a_branch_may_have_letters_of_any_language(self, here: Here, remote: Path) -> None:
        git("-C", str(remote), "branch", "freigabe/größer-2", "main")
        assert here.json("gt", "rig", "add", "shop", str(remote), "--branch", "freigabe/größer-2")["branch"]

    def test_without_temporal_the_rig_is_kept_and_a_message_says_who_starts_it(self, here: Here, remote: Path) -> None:
        outcome = here.run("gt", "rig", "add", "shop", str(remote), "--gate", "test=true")
        assert "gt up" in outcome.err
        assert "warning" not in outcome.err

    def test_without_gates_it_warns(self, here: Here, remote: Path) -> None:
        assert "warning: shop has no gates" in here.run("gt", "rig", "add", "shop", str(remote)).err

    def test_the_same_rig_twice_is_one(self, here: Here, remote: Path) -> None:
        argv = ("gt", "rig", "add", "shop", str(remote), "--gate", "test=true")
        assert here.json(*argv) == here.json(*argv)

    def test_another_rig_of_that_name_is_refused(self, here: Here, remote: Path) -> None:
        here.run("gt", "rig", "add", "shop", str(remote))
        assert here.run("gt", "rig", "add", "shop", str(remote), "--branch", "dev", expect=5).out == ""

    def test_prefixes_are_made_unique(self, here: Here, remote: Path) -> None:
        names = ("shop", "shopping", "sh", "SH-1", "1-2-3")
        prefixes = [here.json("gt", "rig", "add", name, str(remote))["prefix"] for name in names]
        assert prefixes[0] == "sh"
        assert prefixes[1] == "sho"
        assert len(set(prefixes)) == len(prefixes)
        assert here.run("gt", "rig", "add", "other", str(remote), "--prefix", "sh", expect=5).out == ""

    def test_a_relative_path_means_the_same_from_everywhere(self, here: Here, remote: Path, town: Town) -> None:
        relative = f"../{remote.name}"
        assert here.json("gt", "rig", "add", "shop", relative)["url"] == str(remote)

    def test_a_branch_may_be_named(self, here: Here, remote: Path) -> None:
        assert here.json("gt", "rig", "add", "shop", str(remote), "--branch", "dev")["branch"] == "dev"

    def test_a_remote_whose_head_names_no_branch_asks_for_one(self, here: Here, remote: Path) -> None:
        git("-C", str(remote), "symbolic-ref", "HEAD", "refs/heads/gone")
        assert "--branch" in here.run("gt", "rig", "add", "shop", str(remote), expect=3).err
        assert here.json("gt", "rig", "add", "shop", str(remote), "--branch", "main")["branch"] == "main"

    @pytest.mark.parametrize(
        ("argv", "code", "says"),
        [
            (("shop", "REMOTE", "--branch", "nope"), 3, "no branch 'nope'"),
            (("shop", "REMOTE/nowhere"), 1, "does not appear to be a git repository"),
            (("shop", "https://127.0.0.1:9/x.git"), 4, "unable to access"),
            (("shop", "ssh://127.0.0.1:9/x.git"), 4, "127.0.0.1"),
            (("shop", "ext::sh -c true"), 2, "not allowed"),
            (("shop", "--", "-u"), 2, "not a path or URL"),
            (("shop", "https://u:secret@127.0.0.1/x"), 2, "password"),
            (("shop", "REMOTE", "--prefix", "Sh"), 2, "not a bead prefix"),
            (("shop", "REMOTE", "--branch", "a..b"), 2, "not a branch name"),
            (("shop", "REMOTE", "--gate", "pytest"), 2, "NAME=CMD"),
            (("shop", "REMOTE", "--gate", "test="), 2, "NAME=CMD"),
            (("shop", "REMOTE", "--gate", "a/b=true"), 2, "not a gate name"),
            (("shop", "REMOTE", "--gate", "a=true", "--gate", "a=false"), 2, "twice"),
            (("shop", "REMOTE", "--agent", "no-such-agent-program --x"), 2, "no program"),
            (("town", "REMOTE"), 2, "cannot be named"),
        ],
    )
    def test_what_cannot_be_leaves_no_rig_behind(
        self, here: Here, remote: Path, argv: tuple[str, ...], code: int, says: str
    ) -> None:
        outcome = here.run("gt", "rig", "add", *[word.replace("REMOTE", str(remote)) for word in argv], expect=code)
        assert outcome.out == ""
        assert says in outcome.err
        assert "secret" not in outcome.err
        assert here.json("gt", "rig", "list") == []

    def test_an_empty_repository_says_what_is_missing(self, here: Here, tmp_path: Path) -> None:
        git("init", "-q", "--bare", str(tmp_path / "empty.git"))
        outcome = here.run("gt", "rig", "add", "shop", str(tmp_path / "empty.git"), expect=5)
        assert "has no commits" in outcome.err
        assert "push a first commit" in outcome.err


class TestWhatIsFound:
    def test_a_look_at_the_remote_is_told_to_people_and_to_scripts(self, here: Here, remote: Path) -> None:
        outcome = here.run("gt", "rig", "add", "shop", str(remote), "--gate", "test=true", "-o", "json")
        found = outcome.json["found"]
        assert (found["default_branch"], found["branches"], found["object_format"]) == ("main", 2, "sha1")
        assert (found["bare"], found["push"], found["force_push"], found["lfs"]) == (True, True, True, False)
        assert "push allowed (dry run), bare, sha1; default branch main" in outcome.err

    def test_lfs_submodules_and_refused_rewrites_are_seen(self, here: Here, remote: Path, tmp_path: Path) -> None:
        work = tmp_path / "work"
        git("clone", "-q", str(remote), str(work))
        (work / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
        head = subprocess.run(["git", "-C", str(work), "rev-parse", "HEAD"], capture_output=True, check=True, text=True)
        git("-C", str(work), "update-index", "--add", "--cacheinfo", f"160000,{head.stdout.strip()},libs/one")
        git("-C", str(work), "add", ".gitattributes")
        git("-C", str(work), "commit", "-q", "-m", "more")
        git("-C", str(work), "push", "-q", "origin", "HEAD:main")
        git("-C", str(remote), "config", "receive.denyNonFastForwards", "true")
        found = here.json("gt", "rig", "add", "shop", str(remote))["found"]
        assert (found["lfs"], found["submodules"], found["force_push"]) == (True, ["libs/one"], False)

    def test_somebodys_checkout_is_refused_before_an_agent_works_for_it(self, here: Here, tmp_path: Path) -> None:
        code = tmp_path / "code"
        git("init", "-q", "-b", "main", str(code))
        git("-C", str(code), "commit", "-q", "--allow-empty", "-m", "first")
        for url in (code, code / ".git"):
            outcome = here.run("gt", "rig", "add", "shop", str(url), expect=5)
            assert "main checked out" in outcome.err
            assert "git clone --bare" in outcome.err
        git("-C", str(code), "config", "receive.denyCurrentBranch", "updateInstead")
        assert "checked out there" in here.run("gt", "rig", "add", "shop", str(code)).err

    def test_sha256_is_refused(self, here: Here, tmp_path: Path) -> None:
        other = tmp_path / "sha256"
        git("init", "-q", "-b", "main", "--object-format=sha256", str(other))
        git("-C", str(other), "commit", "-q", "--allow-empty", "-m", "first")
        assert "SHA-256" in here.run("gt", "rig", "add", "shop", str(other), expect=5).err

    def test_a_shallow_clone_is_refused_since_git_takes_no_branch_of_it(
        self, here: Here, remote: Path, tmp_path: Path
    ) -> None:
        shallow = tmp_path / "shallow.git"
        work = tmp_path / "work"
        git("clone", "-q", str(remote), str(work))
        git("-C", str(work), "commit", "-q", "--allow-empty", "-m", "second")
        git("clone", "-q", "--bare", "--depth=1", f"file://{work}", str(shallow))
        outcome = here.run("gt", "rig", "add", "shop", str(shallow), expect=5)
        assert "shallow clone" in outcome.err
        assert "fetch --unshallow" in outcome.err
        git("-C", str(shallow), "fetch", "-q", "--unshallow")
        here.run("gt", "rig", "add", "shop", str(shallow))

    def test_a_remote_that_takes_no_push_is_refused_with_its_words(
        self, here: Here, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serve(monkeypatch, tmp_path, remote, 'echo "ERROR: Permission to shop.git denied to ada." >&2; exit 1')
        outcome = here.run("gt", "rig", "add", "shop", ELSEWHERE, expect=5)
        assert "Permission to shop.git denied to ada" in outcome.err
        assert here.json("gt", "rig", "list") == []

    def test_a_remote_elsewhere_is_looked_into_without_its_files(
        self, here: Here, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serve(monkeypatch, tmp_path, remote, f"exec git-receive-pack {remote}")
        found = here.run("gt", "rig", "add", "shop", ELSEWHERE, "-o", "json").json["found"]
        assert (found["bare"], found["push"], found["files"], found["lfs"]) == (None, True, 0, False)

    def test_a_check_without_a_worker_says_so_and_the_rig_is_there(self, here: Here, remote: Path) -> None:
        outcome = here.run("gt", "rig", "add", "shop", str(remote), "--gate", "test=true", "--check")
        assert "the gates could not be run" in outcome.err


ELSEWHERE = "ssh://git@example.com/shop.git"


def serve(monkeypatch: pytest.MonkeyPatch, folder: Path, remote: Path, push: str) -> None:
    """Let ssh lead to `remote`, and do `push` where something is pushed."""
    program = folder / "ssh"
    program.write_text(f'#!/bin/sh\ncase "$*" in *receive-pack*) {push};; esac\nexec git-upload-pack {remote}\n')
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program))


class TestSet:
    def test_every_field_but_name_and_prefix_can_be_changed(self, here: Here, remote: Path, tmp_path: Path) -> None:
        here.run("gt", "rig", "add", "shop", str(remote), "--gate", "test=true")
        moved = tmp_path / "moved.git"
        git("clone", "-q", "--bare", str(remote), str(moved))
        argv = ("--url", str(moved), "--branch", "dev", "--agent", "true", "--max-polecats", "3")
        changed = here.json("gt", "rig", "set", "shop", *argv, "--gate", "test=pytest -q", "--gate", "lint=ruff check")
        assert (changed["url"], changed["branch"], changed["agent"]) == (str(moved), "dev", "true")
        assert (changed["max_polecats"], changed["prefix"]) == (3, "sh")
        assert [(gate["name"], gate["command"]) for gate in changed["gates"]] == [
            ("test", "pytest -q"),
            ("lint", "ruff check"),
        ]
        assert here.json("gt", "rig", "list") == [changed]
        assert here.json("gt", "rig", "set", "shop", "--agent", "")["agent"] is None

    def test_the_same_value_twice_changes_nothing(self, here: Here, remote: Path) -> None:
        here.run("gt", "rig", "add", "shop", str(remote), "--gate", "test=true")
        first = here.json("gt", "rig", "set", "shop", "--branch", "dev")
        again = here.run("gt", "rig", "set", "shop", "--branch", "dev", "-o", "json")
        assert again.json == first
        assert "nothing to change" in again.err

    @pytest.mark.parametrize(
        ("argv", "code", "says"),
        [
            ((), 2, "nothing to change was given"),
            (("--branch", "nope"), 3, "no branch 'nope'"),
            (("--branch", "a..b"), 2, "not a branch name"),
            (("--url", "REMOTE/nowhere"), 1, "does not appear to be a git repository"),
            (("--url", "ext::sh -c true"), 2, "not allowed"),
            (("--max-polecats", "0"), 2, "max-polecats"),
            (("--gate", "test"), 2, "not NAME=CMD"),
            (("--agent", "no-such-agent"), 2, "no-such-agent"),
            (("--prefix", "xx"), 5, "prefix stays"),
        ],
    )
    def test_what_cannot_be_leaves_the_rig_as_it_is(
        self, here: Here, remote: Path, argv: tuple[str, ...], code: int, says: str
    ) -> None:
        here.run("gt", "rig", "add", "shop", str(remote), "--gate", "test=true")
        before = here.json("gt", "rig", "list")
        given = [word.replace("REMOTE", str(remote)) for word in argv]
        assert says in here.run("gt", "rig", "set", "shop", *given, expect=code).err
        assert here.json("gt", "rig", "list") == before

    def test_an_unknown_rig_is_not_found(self, here: Here, rig: Rig) -> None:
        here.run("gt", "rig", "set", "nope", "--max-polecats", "3", expect=3)


class TestRemove:
    def test_off_a_terminal_it_needs_yes(self, here: Here, rig: Rig) -> None:
        outcome = here.run("gt", "rig", "remove", "shop", expect=2)
        assert "hint: gt rig remove shop --yes" in outcome.err
        assert len(here.json("gt", "rig", "list")) == 1

    def test_a_dry_run_shows_the_rig_and_leaves_it(self, here: Here, rig: Rig) -> None:
        assert here.json("gt", "rig", "remove", "shop", "--dry-run")["name"] == "shop"
        assert [one["name"] for one in here.json("gt", "rig", "list")] == ["shop"]

    def test_an_unknown_rig_is_not_found(self, here: Here, rig: Rig) -> None:
        here.run("gt", "rig", "remove", "nope", "--yes", expect=3)

    def test_a_rig_with_an_unfinished_job_stays(self, here: Here, bead: Bead, ledger: Ledger) -> None:
        start_job(ledger, bead.id)
        assert f"gt job cancel {bead.id}" in here.run("gt", "rig", "remove", "shop", "--yes", expect=5).err

    def test_while_temporal_is_down_it_stays_because_its_workflows_could_not_be_ended(
        self, here: Here, rig: Rig
    ) -> None:
        here.run("gt", "rig", "remove", "shop", "--yes", expect=4)
        assert len(here.json("gt", "rig", "list")) == 1


class TestGates:
    def test_a_gate_is_added_changed_piece_by_piece_and_removed(self, here: Here, remote: Path) -> None:
        here.run("gt", "rig", "add", "shop", str(remote), "--gate", "test=pytest -q")
        where = ("--rig", "shop")
        added = here.json("gt", "refinery", "gate", "set", "docs", "--run", "make docs", "--only", "docs/**", *where)
        assert [gate["name"] for gate in added["gates"]] == ["test", "docs"]
        more = ("--parallel", "--retry", "2", "--cache", "node_modules", "--timeout", "60")
        here.run("gt", "refinery", "gate", "set", "docs", *more, *where)
        shown = here.json("gt", "refinery", "gate", "list", *where)["gates"][1]
        assert shown == {
            "name": "docs",
            "command": "make docs",
            "timeout_s": 60,
            "parallel": True,
            "retry": 2,
            "only": ["docs/**"],
            "cache": ["node_modules"],
        }
        emptied = here.json("gt", "refinery", "gate", "set", "docs", "--only", "", "--no-parallel", *where)["gates"][1]
        assert (emptied["only"], emptied["parallel"], emptied["retry"]) == ([], False, 2)
        assert "make docs" in here.run("gt", "refinery", "gate", "list", *where).out
        here.run("gt", "refinery", "gate", "remove", "test", *where)
        assert "untested" in here.run("gt", "refinery", "gate", "remove", "docs", *where).err

    def test_what_cannot_be_is_refused_and_changes_nothing(self, here: Here, remote: Path) -> None:
        here.run("gt", "rig", "add", "shop", str(remote), "--gate", "test=true")
        where = ("--rig", "shop")
        here.run("gt", "refinery", "gate", "set", "lint", *where, expect=3)
        here.run("gt", "refinery", "gate", "remove", "lint", *where, expect=3)
        here.run("gt", "refinery", "gate", "list", "--rig", "nope", expect=3)
        here.run("gt", "refinery", "gate", "set", "test", "--cache", "../up", *where, expect=2)
        here.run("gt", "refinery", "gate", "set", "-x", "--run", "true", *where, expect=2)
        (gate,) = here.json("gt", "refinery", "gate", "list", *where)["gates"]
        assert (gate["name"], gate["cache"]) == ("test", [])
