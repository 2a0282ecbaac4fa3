"""Trees that cannot be checked out, at a gate: a report with git's words, and the next gate goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from activities.gates.checkout import GateCheckout, check_out
from activities.gates.run import GateActivities
from activities.git.clones import cache_clone
from activities.git.lfs import LfsCheckout
from activities.git.submodules import SubmoduleCheckout
from models.ledger.records import GateSpec, Rig
from models.refinery.gates import GateOutcome, GateReport, RunGates
from models.town import TownPaths
from tests.activities.git.objects import Objects
from tests.activities.workshop import git


class Trees:
    """Makes commits of any tree in the landing clone, as a fetch without checks would bring them."""

    def __init__(self, clone: Path) -> None:
        self.clone = clone
        # 2,500 folders by a git command each take minutes on a busy machine.
        self._objects = Objects(clone / "objects")
        self.blob = self._objects.write("blob", b"content\n")

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        """A tree of (mode, name, object) as they are: git's own commands would refuse some."""
        raw = b"".join(f"{mode} ".encode() + name + b"\0" + bytes.fromhex(sha) for mode, name, sha in entries)
        return self._objects.write("tree", raw)

    def commit(self, tree: str) -> str:
        return git(self.clone, "commit-tree", tree, "-m", "Tree")

    def nested(self, name: bytes, depth: int) -> str:
        tree = self.tree(("100644", b"f", self.blob))
        for _ in range(depth):
            tree = self.tree(("40000", name, tree))
        return tree


@pytest.fixture
def trees(town_paths: TownPaths, rig: Rig) -> Trees:
    return Trees(cache_clone(town_paths, rig).git_dir)


async def gated(paths: TownPaths, rig: Rig, sha: str, command: str = "true") -> GateReport:
    gate = GateSpec(name="test", command=command, timeout_s=600)
    request = RunGates(rig="shop", sha=sha, gates=(gate,), url=rig.url, branch="main", target="main", label="merge/1/x")
    return await GateActivities(paths).run_gates(request)


def hostile(trees: Trees, kind: str) -> str:
    blob = trees.blob
    made = {
        "a name of 300 bytes": lambda: trees.tree(("100644", b"n" * 300, blob)),
        "2,500 folders deep": lambda: trees.nested(b"d", 2500),
        "a path of 5,000 bytes": lambda: trees.nested(b"d" * 200, 25),
        "a folder .git": lambda: trees.tree(("40000", b".git", trees.tree(("100644", b"config", blob)))),
        "a folder ..": lambda: trees.tree(("40000", b"..", trees.tree(("100644", b"f", blob)))),
        "a name with a slash": lambda: trees.tree(("100644", b"a/../../f", blob)),
        "a blob that is nowhere": lambda: trees.tree(("100644", b"f", "12" * 20)),
        "a tree that is nowhere": lambda: trees.tree(("40000", b"d", "12" * 20)),
        "a tree that is a blob": lambda: trees.tree(("40000", b"d", blob)),
        "10^12 files": lambda: Objects(trees.clone / "objects").nested(10, 12),
        ".gitmodules that is a link": lambda: trees.tree(("120000", b".gitmodules", blob), ("160000", b"x", "12" * 20)),
    }
    return trees.commit(made[kind]())


REFUSED = (
    "a name of 300 bytes",
    "2,500 folders deep",
    "a path of 5,000 bytes",
    "a folder .git",
    "a folder ..",
    "a name with a slash",
    "a blob that is nowhere",
    "a tree that is nowhere",
    "a tree that is a blob",
    "10^12 files",
)


class TestAtAGate:
    @pytest.mark.parametrize("kind", REFUSED)
    async def test_it_is_a_gate_that_could_not_run_and_the_next_one_goes_on(
        self, town_paths: TownPaths, rig: Rig, trees: Trees, kind: str
    ) -> None:
        good = trees.commit(trees.tree(("100644", b"f", trees.blob)))
        assert (await gated(town_paths, rig, good)).outcome is GateOutcome.PASSED
        report = await gated(town_paths, rig, hostile(trees, kind))
        assert (report.outcome, report.reason, report.gate) == (GateOutcome.COULD_NOT_RUN, "checkout_failed", None)
        assert report.tail
        after = await gated(town_paths, rig, good, 'test "$(ls -A)" = ".git\nf"')
        assert after.outcome is GateOutcome.PASSED, after.tail

    async def test_a_tree_that_git_can_check_out_runs_its_gates_though_it_is_odd(
        self, town_paths: TownPaths, rig: Rig, trees: Trees
    ) -> None:
        odd = hostile(trees, ".gitmodules that is a link")
        assert (await gated(town_paths, rig, odd)).outcome is not GateOutcome.FAILED
        names = [b"new\nline", b"\xff\xfe", b"-rf", b" ", b"$(touch x)", b"CON", b"a", b"A"]
        tree = trees.tree(*(("100644", name, trees.blob) for name in sorted(names)))
        report = await gated(town_paths, rig, trees.commit(tree), 'test -z "$(git status --porcelain)"')
        assert report.outcome is GateOutcome.PASSED, report.tail


class TestAfterAGate:
    """What a gate leaves in its checkout is in nobody's way."""

    @pytest.mark.parametrize(
        "left",
        [
            "python3 -c \"import os\nfor _ in range(2500): os.mkdir('d'); os.chdir('d')\"",
            "mkdir -p a/b && touch a/b/c && chmod 000 a/b a",
            "rm -rf .git f && ln -s / .git && ln -s /etc f",
            "rm f && mkdir f && touch f/x && mkfifo pipe",
            "git init -q inner && touch inner/x && chmod 555 inner inner/.git",
        ],
    )
    async def test_the_next_gate_sees_the_files_of_its_commit_alone(
        self, town_paths: TownPaths, rig: Rig, trees: Trees, left: str
    ) -> None:
        good = trees.commit(trees.tree(("100644", b"f", trees.blob)))
        assert (await gated(town_paths, rig, good, left)).outcome is GateOutcome.PASSED
        after = await gated(town_paths, rig, good, 'test "$(ls -A)" = ".git\nf" && grep -q content f')
        assert after.outcome is GateOutcome.PASSED, after.tail

    def test_what_cannot_be_deleted_is_put_aside(
        self, town_paths: TownPaths, trees: Trees, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = trees.commit(trees.tree(("100644", b"f", trees.blob)))
        order = GateCheckout(
            land_clone=trees.clone,
            runner=town_paths.gate_runner("shop", 0),
            trash=town_paths.trash,
            sha=good,
            lfs=LfsCheckout(town_paths.lfs("shop")),
            submodules=SubmoduleCheckout(town_paths.modules("shop"), str(trees.clone)),
        )
        check_out(order)
        os.mkfifo(order.runner / "stuck")
        real = os.unlink

        def refused(path: Path | str, *, dir_fd: int | None = None) -> None:
            # As of a file that root has made immutable, or that a mount holds.
            if Path(path).name == "stuck":
                raise PermissionError(1, "Operation not permitted", str(path))
            real(path, dir_fd=dir_fd)

        monkeypatch.setattr(os, "unlink", refused)
        check_out(order)
        assert sorted(entry.name for entry in order.runner.iterdir()) == [".git", "f"]
        [aside] = town_paths.trash.iterdir()
        assert (aside / "stuck").exists()
