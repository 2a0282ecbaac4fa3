"""Trees of every shape that an object can have: published or refused with the reason, gated, cleaned up, and gone on.

The objects are written byte by byte, as no git command would: names that are no names, entries twice or out of order,
folders within folders by the hundred, trees that name one subtree many times.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from activities.gates.run import GateActivities
from activities.git.worktree.worktrees import Worktrees
from models.errors import ErrorCode, GtError
from models.ledger.records import GateSpec, Rig
from models.refinery.gates import GateOutcome, RunGates
from models.settings import GitSettings, LimitSettings
from models.town import TownPaths
from tests.activities.conftest import _seed
from tests.activities.git.objects import Objects
from tests.activities.workshop import git

EXAMPLES = int(os.environ.get("GT_TREES", "25"))
"""how many trees; 500 take some minutes"""
MOST_CPU_S = 30.0
"""for all that is done about one tree, in seconds of a core: a machine that is busy with others takes longer"""
_NUMBERS = itertools.count(1)
LIMITS = LimitSettings(entries=2_000, depth=50)

_NAMES = st.one_of(
    st.sampled_from(
        [
            *(b"a", b"b", b"A", b"README.md", b"till.py", b".git", b".GIT", b".gitmodules", b".gitattributes"),
            *(b"..", b".", b"-rf", b"a\nb", b"\xff\xfe", "é".encode(), b"e\xcc\x81", b"n" * 255, b"n" * 256),
            *(b"n" * 300, b"con", b"a\\b", b"git~1", b"a ", b"*", b"\xe2\x80\xae"),
        ]
    ),
    st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"0").replace(b"/", b"1")),
)  # fmt: skip
_MODES = st.sampled_from(["100644", "100755", "120000", "100664", "040000", "160000", "777", "0"])
_LEAVES = st.tuples(
    _MODES.filter(lambda mode: mode != "040000"), _NAMES, st.sampled_from(["content", "", "/etc/passwd", "../.."])
)
_TREES = st.recursive(
    st.lists(_LEAVES, max_size=4),
    lambda inner: st.lists(st.one_of(_LEAVES, st.tuples(st.just("40000"), _NAMES, inner)), max_size=4),
    max_leaves=12,
)
_SHAPES = st.one_of(
    _TREES.map(lambda entries: ("entries", entries)),
    st.tuples(st.just("deep"), st.integers(40, 120)),
    st.tuples(st.just("bomb"), st.integers(2, 12)),
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Worktrees, TownPaths, Rig]:
    """One town for all trees: what one leaves behind must not be in the way of the next."""
    folder = tmp_path_factory.mktemp("trees")
    remote = folder / "shop.git"
    remote.mkdir()
    git(remote, "init", "--quiet", "--bare", "--initial-branch=main")
    git(remote, "update-ref", "refs/heads/main", _seed(remote, {"README.md": "shop\n", "till.py": "one\n"}, None))
    paths = TownPaths(folder / "town")
    rig = Rig(name="shop", url=str(remote), prefix="sh", branch="main", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    return Worktrees(paths), paths, rig


async def _gate(paths: TownPaths, rig: Rig, sha: str) -> GateOutcome:
    gate = GateSpec(name="test", command="true", timeout_s=600)
    order = RunGates(rig="shop", sha=sha, gates=(gate,), url=rig.url, branch="main", target="main", label="merge/1/x")
    report = await GateActivities(paths).run_gates(order)
    if report.outcome is not GateOutcome.PASSED:
        assert report.outcome is GateOutcome.COULD_NOT_RUN, report
        assert report.reason == "checkout_failed"
        assert report.tail, "the reason is told"
    return report.outcome


def _cpu_s() -> float:
    return sum(os.times()[:4])


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(shape=_SHAPES)
@pytest.mark.timeout(1800)
def test_it_is_published_or_refused_with_the_reason_and_holds_nobody_up(
    town: tuple[Worktrees, TownPaths, Rig], shape: tuple[str, object]
) -> None:
    worktrees, paths, rig = town
    bead = f"sh-{next(_NUMBERS)}"
    began = _cpu_s()
    path = worktrees.prepare(rig, "toast", bead, "main").path
    # The tree before this one has left nothing.
    assert sorted(entry.name for entry in path.iterdir()) == [".git", "README.md", "till.py"]
    objects = Objects(path / ".git" / "objects")
    kind, what = shape
    if kind == "entries":
        assert isinstance(what, list)
        tree = objects.tree(what)
    else:
        assert isinstance(what, int)
        tree = objects.nested(1, what) if kind == "deep" else objects.nested(10, what)
    head = objects.commit_tree_on(path, bead, tree)
    refused: GtError | None = None
    try:
        worktrees.publish(rig, "toast", bead, 1, GitSettings(), LIMITS)
    except GtError as error:
        refused = error
    if refused is None:
        asyncio.run(_gate(paths, rig, head))
    else:
        # Not to be tried again for ever, and not without a word.
        assert refused.code in {ErrorCode.INVALID_VALUE, ErrorCode.REFUSED, ErrorCode.REMOTE_REFUSED}, refused
        assert len(refused.message) > 10
    worktrees.park(rig, "toast", bead, 1, head)
    worktrees.release(rig, "toast", bead)
    assert _cpu_s() - began < MOST_CPU_S
