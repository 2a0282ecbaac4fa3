"""The world that a gate's tests expect: files as the tree has them, refs, LFS, submodules, HOME, variables, set-up."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from activities.gates.run import GateActivities
from activities.git.merging.landing import LandingActivities
from models.ledger.records import GateSpec, MergeRequest, Rig
from models.refinery.gates import GateOutcome, GateReport, RunGates
from models.refinery.messages import BuildChain, Chain
from models.settings import GateSettings, WorktreeSettings
from models.town import TownPaths
from tests.activities.workshop import Workshop, git
from tests.sandboxes import open_at


class Bench:
    """Builds chains and runs gates at their last link."""

    def __init__(self, paths: TownPaths, rig: Rig, workshop: Workshop) -> None:
        self.paths = paths
        self.rig = rig
        self.workshop = workshop

    def chain(self, *requests: MergeRequest, target: str = "main") -> Chain:
        order = BuildChain(rig=self.rig, target=target, changes=requests)
        return LandingActivities(self.paths).build_chain(order)

    async def gate(
        self,
        chain: Chain,
        *commands: str,
        settings: dict[str, Any] | None = None,
        worktree: dict[str, Any] | None = None,
        target: str = "main",
        timeout_s: int = 600,
    ) -> GateReport:
        gates = tuple(
            GateSpec(name=f"gate{number}", command=command, timeout_s=timeout_s)
            for number, command in enumerate(commands)
        )
        request = RunGates(
            rig=self.rig.name,
            sha=chain.links[-1].sha if chain.links else chain.base_sha,
            gates=gates,
            settings=GateSettings.model_validate(settings or {}),
            worktree=WorktreeSettings.model_validate(worktree or {}),
            url=self.rig.url,
            branch=self.rig.branch,
            target=target,
            base_sha=chain.base_sha,
            label="merge/shop/1/tip-1",
            sandbox=open_at(self.paths.root.parent),
        )
        return await GateActivities(self.paths).run_gates(request)

    async def passes(self, chain: Chain, *commands: str, **more: Any) -> None:
        report = await self.gate(chain, *commands, **more)
        assert report.outcome is GateOutcome.PASSED, f"{report.gate}: {report.tail}"


@pytest.fixture
def bench(town_paths: TownPaths, rig: Rig, workshop: Workshop) -> Bench:
    return Bench(town_paths, rig, workshop)


def log_of(report: GateReport) -> str:
    return Path(report.log_path or "").read_text()


class TestFiles:
    async def test_line_endings_are_the_trees_whatever_a_person_has_set(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / ".gitconfig").write_text("[core]\n\tautocrlf = true\n\teol = crlf\n")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        chain = bench.chain(bench.workshop.change("sh-1", {"test.sh": "set -e\nif true\nthen\n  true\nfi\n"}))
        await bench.passes(chain, "sh test.sh", 'test -z "$(git status --porcelain)"', settings={"home": "person"})

    async def test_endings_that_the_tree_asks_for_are_given(self, bench: Bench) -> None:
        files: dict[str, str | bytes | None] = {".gitattributes": "*.bat text eol=crlf\n", "run.bat": "one\ntwo\n"}
        chain = bench.chain(bench.workshop.change("sh-1", files))
        await bench.passes(chain, 'test "$(wc -c < run.bat)" -eq 10')

    async def test_attributes_that_change_alone_make_the_same_contents_other_files(self, bench: Bench) -> None:
        bench.workshop.advance_main({"run.bat": "one\ntwo\n"})
        await bench.passes(bench.chain(), 'test "$(wc -c < run.bat)" -eq 8')
        chain = bench.chain(bench.workshop.change("sh-1", {".gitattributes": "*.bat text eol=crlf\n"}))
        await bench.passes(chain, 'test "$(wc -c < run.bat)" -eq 10')

    async def test_a_persons_untracked_files_are_brought_and_no_commit_takes_them(self, bench: Bench) -> None:
        folder = bench.paths.brought_files("shop")
        folder.mkdir(parents=True)
        (folder / ".env").write_text("PORT=1\n")
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        await bench.passes(
            chain,
            "grep -q PORT=1 .env",
            'test -z "$(git status --porcelain)"',
            settings={"copy": ".env"},
        )
        await bench.passes(chain, "test ! -e .env")

    async def test_they_come_from_the_folder_of_the_setting(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "mine" / "conf").mkdir(parents=True)
        (tmp_path / "mine" / "conf" / "key").write_text("k")
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        await bench.passes(
            chain, "test -s conf/key", settings={"copy": "conf"}, worktree={"copy_from": str(tmp_path / "mine")}
        )

    async def test_a_file_that_cannot_be_brought_blames_nobody_and_is_named(self, bench: Bench) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        report = await bench.gate(chain, "true", settings={"copy": ".env"})
        assert (report.outcome, report.reason) == (GateOutcome.COULD_NOT_RUN, "checkout_failed")
        assert ".env" in report.tail

    async def test_a_link_in_the_tree_does_not_lead_them_elsewhere(self, bench: Bench, tmp_path: Path) -> None:
        folder = bench.paths.brought_files("shop") / "conf"
        folder.mkdir(parents=True)
        (folder / "key").write_text("k")
        (tmp_path / "outside").mkdir()
        bench.workshop.start("sh-1")
        (bench.workshop.folder / "conf").symlink_to(tmp_path / "outside")
        bench.workshop.commit({"a.txt": "a\n"})
        report = await bench.gate(bench.chain(bench.workshop.submit("sh-1")), "true", settings={"copy": "conf/key"})
        assert report.outcome is GateOutcome.COULD_NOT_RUN
        assert not (tmp_path / "outside" / "key").exists()


class TestRefs:
    async def test_the_target_and_what_is_new_on_it_are_there(self, bench: Bench) -> None:
        chain = bench.chain(
            bench.workshop.change("sh-1", {"a.txt": "a\n"}), bench.workshop.change("sh-2", {"b.txt": "b\n"})
        )
        await bench.passes(
            chain,
            'test "$(git diff --name-only origin/main...HEAD | xargs)" = "a.txt b.txt"',
            'test "$(git log --oneline origin/main..HEAD | wc -l)" -eq 2',
            'test "$(git rev-parse --abbrev-ref origin/HEAD)" = origin/main',
            f'test "$(git remote get-url origin)" = "{bench.rig.url}"',
        )

    async def test_tags_are_there_old_new_moved_and_deleted(self, bench: Bench) -> None:
        bench.workshop.git("tag", "-a", "-m", "one", "v1.0", "HEAD")
        bench.workshop.git("tag", "nightly/one", "HEAD~1")
        bench.workshop.git("push", "--quiet", "origin", "--tags")
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        await bench.passes(chain, "git describe --tags | grep -q ^v1.0-1-", 'test "$(git tag | wc -l)" -eq 2')
        bench.workshop.git("push", "--quiet", "origin", ":nightly/one")
        bench.workshop.advance_main({"c.txt": "c\n"})
        bench.workshop.git("tag", "-f", "-a", "-m", "two", "v1.0", "HEAD")
        bench.workshop.git("push", "--quiet", "--force", "origin", "v1.0")
        chain = bench.chain(bench.workshop.change("sh-2", {"b.txt": "b\n"}))
        await bench.passes(chain, "git describe --tags | grep -q ^v1.0-1-", 'test "$(git tag | xargs)" = v1.0')

    async def test_three_hundred_tags_are_there_and_nothing_is_fetched_twice(self, bench: Bench) -> None:
        sha = bench.workshop.git("rev-parse", "HEAD")
        lines = "".join(f"create refs/tags/v{number} {sha}\n" for number in range(300))
        git(bench.workshop.remote, "update-ref", "--stdin", stdin=lines.encode())
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        await bench.passes(chain, 'test "$(git tag | wc -l)" -eq 300')

    async def test_for_another_target_the_default_branch_is_there_too(self, bench: Bench) -> None:
        bench.workshop.git("fetch", "--quiet", "origin")
        bench.workshop.start("sh-1", "origin/release")
        bench.workshop.commit({"a.txt": "a\n"})
        chain = bench.chain(bench.workshop.submit("sh-1", target="release"), target="release")
        await bench.passes(
            chain,
            'test "$(git diff --name-only origin/release...HEAD)" = a.txt',
            "git rev-parse --verify origin/main",
            'test "$(git rev-parse --abbrev-ref origin/HEAD)" = origin/main',
            target="release",
        )

    async def test_a_push_out_of_a_gate_goes_nowhere(self, bench: Bench) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        await bench.passes(chain, "! git push origin HEAD:refs/heads/evil")
        assert bench.workshop.at_remote("refs/heads/evil") is None


class TestContents:
    async def test_lfs_content_is_there_and_counts_as_unchanged(self, bench: Bench, lfs_shop: Workshop) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        await bench.passes(chain, 'test "$(wc -c < old.bin)" -eq 3000', 'test -z "$(git status --porcelain)"')

    async def test_by_setting_pointers_stay_and_the_next_setting_holds_at_once(
        self, bench: Bench, lfs_shop: Workshop
    ) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        await bench.passes(chain, "grep -q ^oid old.bin", worktree={"lfs": "never"})
        await bench.passes(chain, 'test "$(wc -c < old.bin)" -eq 3000')

    async def test_an_lfs_content_that_is_nowhere_blames_nobody_and_is_named(
        self, bench: Bench, lfs_shop: Workshop
    ) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"new.bin": b"never uploaded"}))
        report = await bench.gate(chain, "true")
        assert (report.outcome, report.reason) == (GateOutcome.COULD_NOT_RUN, "checkout_failed")
        assert "new.bin" in report.tail

    async def test_without_git_lfs_the_hint_says_how_to_get_it(
        self, bench: Bench, lfs_shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        for program in ("git", "sh", "nice", "env"):
            (tmp_path / program).symlink_to(shutil.which(program) or "")
        monkeypatch.setenv("PATH", str(tmp_path))
        report = await bench.gate(chain, "true")
        assert (report.outcome, report.reason) == (GateOutcome.COULD_NOT_RUN, "checkout_failed")
        assert "apt-get install git-lfs" in report.hint

    async def test_submodules_are_filled_and_follow_the_commit(self, bench: Bench, tmp_path: Path) -> None:
        remote = tmp_path / "remote" / "lib.git"
        git(tmp_path, "clone", "--quiet", "--bare", str(bench.workshop.remote), str(remote))
        library = Workshop(remote, tmp_path / "library")
        tips = [library.git("rev-parse", "HEAD"), library.advance_main({"lib.py": "two\n"})]
        chains = []
        for number, tip in enumerate(tips):
            bench.workshop.start(f"sh-{number}")
            text = '[submodule "lib"]\n\tpath = lib\n\turl = ../lib.git\n'
            (bench.workshop.folder / ".gitmodules").write_text(text)
            bench.workshop.git("add", ".gitmodules")
            bench.workshop.git("update-index", "--add", "--cacheinfo", f"160000,{tip},lib")
            bench.workshop.git("commit", "--quiet", "-m", "Link")
            chains.append(bench.chain(bench.workshop.submit(f"sh-{number}")))
        clean = 'test -z "$(git status --porcelain)" && git submodule status | grep -q "^ "'
        await bench.passes(chains[0], "test -s lib/till.py && test ! -e lib/lib.py", clean)
        await bench.passes(chains[1], "test -s lib/lib.py; touch lib/left; rm lib/till.py")
        await bench.passes(chains[1], "test -s lib/lib.py && test -s lib/till.py && test ! -e lib/left", clean)
        await bench.passes(chains[1], 'test -z "$(ls -A lib)"', worktree={"submodules": "never"})
        plain = bench.chain(bench.workshop.change("sh-9", {"a.txt": "a\n"}))
        await bench.passes(plain, "test ! -e lib")


class TestSurroundings:
    async def test_by_setting_home_is_the_persons(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "home" / ".rustup").mkdir(parents=True)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        await bench.passes(chain, "test -d ~/.rustup", settings={"home": "person"})
        await bench.passes(chain, "test ! -e ~/.rustup")

    async def test_by_setting_home_is_kept_from_run_to_run(self, bench: Bench) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        await bench.passes(chain, "test ! -e ~/mark && touch ~/mark", settings={"home": "kept"})
        await bench.passes(chain, "test -e ~/mark", settings={"home": "kept"})

    async def test_variables_of_the_setting_pass_and_what_is_withheld_is_named(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NPM_TOKEN", "given")
        monkeypatch.setenv("DEPLOY_TOKEN", "leaked-value")
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        report = await bench.gate(
            chain,
            'echo "$NPM_TOKEN/$FLAGS/$GT_WITHHELD"; env; exit 1',
            settings={"environment": "NPM_TOKEN 'FLAGS=-a -b' ABSENT"},
        )
        log = log_of(report)
        first = log.splitlines()[0]
        assert first.startswith("given/-a -b/")
        assert "DEPLOY_TOKEN" in first.split("/")[2].split()
        assert "NPM_TOKEN" not in first.split("/")[2].split()
        assert "leaked-value" not in log

    async def test_nothing_waits_for_an_answer(self, bench: Bench) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        await bench.passes(
            chain,
            "git -c user.name=a -c user.email=a@b commit --amend --quiet",
            "git log",
            '! git ls-remote "https://user@127.0.0.1:9/x.git"',
            'test "$CI/$DEBIAN_FRONTEND/$PAGER/$GIT_ASKPASS/$SSH_ASKPASS" = true/noninteractive/cat/false/false',
        )

    async def test_the_set_up_runs_first_and_its_home_is_the_gates(self, bench: Bench) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        settings = {"setup": "test ! -e ~/tool && touch ~/tool built"}
        report = await bench.gate(chain, "test -e ~/tool", "test -e built", settings=settings)
        assert (report.outcome, report.passed) == (GateOutcome.PASSED, ("setup", "gate0", "gate1"))
        await bench.passes(chain, "test -e ~/tool", settings=settings)

    async def test_a_set_up_that_fails_is_a_gate_that_failed(self, bench: Bench) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        failed = await bench.gate(chain, "true", settings={"setup": "echo no network; exit 3"})
        assert (failed.outcome, failed.gate, failed.exit_code) == (GateOutcome.FAILED, "setup", 3)
        absent = await bench.gate(chain, "true", settings={"setup": "no-such-tool ci"})
        assert (absent.outcome, absent.gate, absent.reason) == (GateOutcome.COULD_NOT_RUN, "setup", "no_such_command")
        late = await bench.gate(chain, "true", settings={"setup": "sleep 100"}, worktree={"setup_timeout": 1})
        assert (late.outcome, late.gate, late.reason) == (GateOutcome.COULD_NOT_RUN, "setup", "timed_out")

    @pytest.mark.parametrize(
        "command",
        [
            "no-such-tool",
            "echo 'error: rustup could not choose a version of cargo to run, and no default is configured.'; exit 1",
            "sh -c no-such-tool; exit 1",
        ],
    )
    async def test_a_tool_that_is_not_found_at_once_tells_path_and_home(self, bench: Bench, command: str) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        report = await bench.gate(chain, command)
        for part in ("HOME=", f"PATH={os.environ['PATH'][:30]}", "gate.home", "gate.environment"):
            assert part in report.hint
        assert report.hint in report.tail

    async def test_a_test_that_fails_gets_no_such_hint(self, bench: Bench) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        assert (await bench.gate(chain, "echo '1 test failed'; exit 1")).hint == ""


class TestEnding:
    async def test_a_process_without_its_environment_ends_with_its_gate(self, bench: Bench, tmp_path: Path) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        stray = f"setsid env -i /bin/sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000' >/dev/null 2>&1 &"
        await bench.passes(
            chain, f"{stray} while [ ! -s {tmp_path}/pid ]; do :; done", f"! kill -0 $(cat {tmp_path}/pid)"
        )

    async def test_one_of_its_session_that_left_its_folder_ends_too(self, bench: Bench, tmp_path: Path) -> None:
        chain = bench.chain(bench.workshop.change("sh-1", {"a.txt": "a\n"}))
        stray = (
            f"set -m; (cd / && exec env -i /bin/sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000') >/dev/null 2>&1 &"
        )
        await bench.passes(chain, f"{stray} while [ ! -s {tmp_path}/pid ]; do :; done")
        await bench.passes(chain, f"! kill -0 $(cat {tmp_path}/pid)")
