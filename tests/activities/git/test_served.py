"""What an agent can do with its remote: fetch, without anybody's credentials, and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.git.command import use_config
from activities.git.merging.foreign_commits import look_at_target
from activities.git.worktree.worktrees import Worktrees
from agents.environment import agent_environment
from agents.gitconfig import as_bytes, session_gitconfig, written_since
from models.job.messages import RigFacts
from models.ledger.records import Rig
from models.settings import GitSettings, Settings
from models.town import TownPaths
from tests.activities.workshop import Workshop

URL = "https://git.example.invalid/team/shop.git"


@pytest.fixture
def away(rig: Rig, workshop: Workshop, tmp_path: Path) -> Iterator[Rig]:
    """The rig, with its remote on another machine, for which only the town has credentials."""
    config = tmp_path / "towns.gitconfig"
    config.write_text(f'[url "{workshop.remote}"]\n\tinsteadOf = {URL}\n')
    use_config(config)
    yield rig.model_copy(update={"url": URL})
    use_config(Path(os.devnull))


class Agent:
    """git in a polecat's worktree, as a session of a person with credentials runs it."""

    def __init__(self, tmp_path: Path, worktree: Path) -> None:
        self.asked = tmp_path / "asked"
        self.worktree = worktree
        (home := tmp_path / "home").mkdir()
        helper = f"!echo asked >> {self.asked}; echo username=ada; echo password=sesame"
        (home / ".gitconfig").write_text(f'[credential]\n\thelper = "{helper}"\n[user]\n\tname = Ada\n\temail = a@b\n')
        base = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_ASKPASS": str(self.asked)}
        (home / "session").write_text(session_gitconfig(base))
        own = {"GIT_CONFIG_GLOBAL": str(home / "session"), "GIT_CONFIG_NOSYSTEM": "1"}
        self.environment = agent_environment(base, own, tmp_path / "bin")

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-ec", line], cwd=self.worktree, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def must(self, line: str) -> str:
        done = self.run(line)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def agent(away: Rig, town_paths: TownPaths, tmp_path: Path) -> Agent:
    return Agent(tmp_path, Worktrees(town_paths).prepare(away, "toast", "sh-1", "main").path)


def patrol(paths: TownPaths, rig: Rig) -> None:
    look_at_target(paths, RigFacts(rig=rig, settings=Settings(), hosts=("h1",)))


def test_fetch_rebase_stash_and_bisect_work(agent: Agent, workshop: Workshop, away: Rig, town_paths: TownPaths) -> None:
    workshop.git("tag", "v1", "origin/main")
    workshop.git("push", "--quiet", "origin", "v1", "origin/release:refs/heads/polecat/sh-9")
    tip = workshop.advance_main({"more.txt": "more"})
    agent.must("echo mine > mine.txt; git add -A; git commit -qm mine")
    patrol(town_paths, away)
    assert agent.must("git fetch -q origin main && git rev-parse FETCH_HEAD origin/main").split() == [tip, tip]
    agent.must(
        "echo half > half.txt; git add -A; git stash -q; git pull -q --rebase; git stash pop -q; test -f half.txt"
    )
    assert agent.must("git rev-parse HEAD~1") == tip
    agent.must("git commit -qam half; git bisect start HEAD HEAD~2; git bisect run true; git bisect reset")
    # The next start of an attempt brings everything.
    Worktrees(town_paths).prepare(away, "toast", "sh-1", "main")
    seen = agent.must("git fetch -q --tags; git ls-remote -q origin").split()
    assert {"HEAD", "refs/heads/main", "refs/heads/release", "refs/tags/v1"} == set(seen[1::2])
    assert not agent.asked.exists()


def test_nothing_is_pushed_by_whatever_name(agent: Agent, workshop: Workshop) -> None:
    before = workshop.at_remote("refs/heads/main")
    agent.must("echo bad > bad.txt; git add -A; git commit -qm bad")
    assert "agents-do-not-push/run-gt-done" in agent.run("git push origin HEAD:main").stderr
    by_address = agent.run(f"git push {URL} HEAD:main")
    assert by_address.returncode != 0
    assert "agents do not push: commit, then run gt done" in by_address.stderr
    # What has its own name for the remote asks it by itself, without credentials.
    agent.run("git push https://git.example.invalid/team/../team/shop.git HEAD:main")
    assert workshop.at_remote("refs/heads/main") == before
    assert not agent.asked.exists()


def test_contents_of_lfs_come_from_the_remote_s_own_address(agent: Agent) -> None:
    assert f"Endpoint={URL}/info/lfs" in agent.must("git lfs env")


def test_a_remote_on_this_machine_is_fetched_from_itself(
    rig: Rig, town_paths: TownPaths, workshop: Workshop, tmp_path: Path
) -> None:
    agent = Agent(tmp_path, Worktrees(town_paths).prepare(rig, "toast", "sh-1", "main").path)
    tip = workshop.advance_main({"more.txt": "more"})
    assert agent.must("git fetch -q origin && git rev-parse origin/main") == tip
    assert not town_paths.served("shop").exists()


def test_a_part_of_a_large_repository_is_served_as_far_as_the_town_has_it(
    away: Rig, town_paths: TownPaths, workshop: Workshop, tmp_path: Path
) -> None:
    workshop.git("config", "uploadpack.allowFilter", "true")
    shallow = GitSettings(depth=1)
    agent = Agent(tmp_path, Worktrees(town_paths).prepare(away, "toast", "sh-1", "main", git=shallow).path)
    tip = workshop.advance_main({"more.txt": "more"})
    look_at_target(town_paths, RigFacts(rig=away, settings=Settings(git=shallow), hosts=("h1",)))
    assert agent.must("git pull -q --rebase; git rev-parse HEAD") == tip


@pytest.mark.parametrize(
    ("config", "gone", "kept"),
    [
        ("[credential]\n\thelper = store\n[credential \"https://h\"]\n\tusername = u\n", "credential", ""),
        ("[http]\n\textraHeader = AUTHORIZATION: basic x\n[http \"https://h/\"]\n\textraheader = x\n", "header", ""),
        ("[http]\n\tproxy = http://proxy:1\n\tcookieFile = c\n", "cookie", "http.proxy"),
        ('[url "https://me:tok@h/"]\n\tinsteadOf = https://h/\n', "tok", ""),
        ('[url "https://tok@h/"]\n\tpushInsteadOf = https://h/\n', "tok", ""),
        ('[url "ssh://git@h/"]\n\tinsteadOf = gh:\n', "", "url.ssh://git@h/.insteadof"),
        ('[alias]\n\tst = status\n[core]\n\taskPass = p\n\tautocrlf = input\n', "askpass", "alias.st"),
    ],
)  # fmt: skip
def test_a_session_has_the_persons_git_config_without_credentials(
    tmp_path: Path, config: str, gone: str, kept: str
) -> None:
    more = tmp_path / "more"
    more.write_text(config)
    (tmp_path / ".gitconfig").write_text(f"[include]\n\tpath = {more}\n[user]\n\tname = Ada\n")
    session = tmp_path / "session"
    session.write_text(session_gitconfig({"PATH": os.environ["PATH"], "HOME": str(tmp_path)}))
    listed = subprocess.run(
        ["git", "config", "--file", str(session), "--list"], capture_output=True, text=True, check=True
    ).stdout
    assert "user.name=Ada" in listed
    assert not gone or gone not in listed.lower()
    assert kept in listed
    assert "include" not in listed


def test_what_the_person_has_set_comes_byte_for_byte(tmp_path: Path) -> None:
    given = b'[user]\n\tname = J\xf6rg "x" \\\\ y\n[alias]\n\tsaid = "!f() { echo \\"a;b # c\\"; }; f"\n\tempty =\n'
    (tmp_path / ".gitconfig").write_bytes(given + b'[difftool "a.b"]\n\tcmd = x\n[core]\n\tbare\n')
    session = tmp_path / "session"
    text = session_gitconfig({"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    session.write_bytes(as_bytes(text))

    def listed(path: Path) -> list[bytes]:
        command = ["git", "config", "--file", str(path), "--list", "-z"]
        return subprocess.run(command, capture_output=True, check=True).stdout.split(b"\0")

    assert {one.replace(b"core.bare\ntrue", b"core.bare") for one in listed(session)} >= set(
        listed(tmp_path / ".gitconfig")
    )
    assert written_since(session, text) == ""


def test_no_token_of_a_forge_reaches_a_session() -> None:
    base = {"GH_TOKEN": "1", "GITHUB_TOKEN": "1", "GITLAB_TOKEN": "1", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "1"}
    base |= {"SSH_AUTH_SOCK": "1", "GIT_ASKPASS": "1", "ANTHROPIC_API_KEY": "1"}
    passed = agent_environment(base, {}, Path("/bin"))
    assert set(base) & set(passed) == {"ANTHROPIC_API_KEY", "GIT_ASKPASS"}
    assert passed["GIT_ASKPASS"] == "false"
