"""Repositories of the shapes that people have, through one town: landed, or refused with the right reason.

All are slung at once; each test looks at what became of one. The last hands in trees that git cannot work with.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from models.ledger.records import JobState
from tests.e2e import hostile_agent
from tests.e2e.held_agents import supervised_town
from tests.e2e.living_town import git, shell_agent, wait_until
from tests.e2e.quick_town import QuickTown

SETTINGS = {
    "health.check_interval": 2,
    "session.done_grace": 1,
    "merge_queue.retry_delay": 1,
    "merge_queue.retry_count": 1,
}
CONTENT = b"texture" * 3000


@dataclass
class Shape:
    """A repository, what an agent does to it, and what a gate expects of its checkout."""

    fill: Callable[[Path], None]
    """puts files into the seed, before its commit"""
    work: str
    gate: str = "true"
    branch: str = "main"
    remote: Callable[[Path, Path], None] = lambda seed, remote: None
    """does something to the remote after the push"""
    refused: str = ""
    """what a person is told where it cannot land"""
    merged: Callable[[Path, str], None] = field(default=lambda remote, branch: None)


def write(seed: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        place = seed / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())


def monorepo(seed: Path, remote: Path) -> None:
    # Straight into a pack: as files they would have to be written first.
    data = [f"M 100644 inline packages/{n % 200}/src/{n}.txt\ndata {len(str(n))}\n{n}\n" for n in range(20_000)]
    head = "commit refs/heads/main\ncommitter Ada <ada@example.com> now\ndata 8\npackages\nfrom refs/heads/main^0\n"
    stream = (head + "".join(data)).encode()
    subprocess.run(["git", "fast-import", "--quiet", "--date-format=now"], cwd=remote, input=stream, check=True)


def lfs(seed: Path) -> None:
    subprocess.run(["git", "lfs", "install", "--local"], cwd=seed, check=True, capture_output=True)
    write(seed, {".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "old.bin": b"old" * 1000})


def push_lfs(seed: Path, remote: Path) -> None:
    git(seed, "lfs", "push", "--all", f"file://{remote}")


def has_object(remote: Path, branch: str) -> None:
    oid = hashlib.sha256(CONTENT).hexdigest()
    assert (remote / "lfs" / "objects" / oid[:2] / oid[2:4] / oid).read_bytes() == CONTENT


def submodule(seed: Path) -> None:
    library = seed.with_name("library")
    if not library.exists():
        git(seed.parent, "init", "-q", "-b", "main", str(library))
        write(library, {"lib.py": "lib\n"})
        git(library, "add", ".")
        git(library, "commit", "-qm", "library")
    git(seed, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "lib")


def links(seed: Path) -> None:
    write(seed, {"real/file.txt": "real\n"})
    (seed / "link").symlink_to("real/file.txt")
    (seed / "folder").symlink_to("real")
    (seed / "dangling").symlink_to("nowhere")


def tags(seed: Path, remote: Path) -> None:
    made = "".join(f"create refs/tags/v{number} refs/heads/main\n" for number in range(300))
    subprocess.run(["git", "update-ref", "--stdin"], cwd=remote, input=made.encode(), check=True)


def hook(name: str, body: str) -> Callable[[Path, Path], None]:
    def install(seed: Path, remote: Path) -> None:
        place = remote / "hooks" / name
        place.write_text(f"#!/bin/sh\n{body}\n")
        place.chmod(0o755)

    return install


def holds(*files: str) -> Callable[[Path, str], None]:
    def look(remote: Path, branch: str) -> None:
        there = subprocess.run(
            ["git", "ls-tree", "-r", "-z", "--name-only", branch], cwd=remote, check=True, capture_output=True
        ).stdout.decode()
        assert set(files) <= set(there.split("\0"))

    return look


TICKET = """while read old new ref; do
  [ "$ref" = refs/heads/main ] || continue
  git log -1 --format=%B $new | grep -q ^Ticket: || { echo "every commit on main names its Ticket"; exit 1; }
done"""
PROTECTED = '[ "$1" != refs/heads/main ] || { echo "main is a protected branch: use a pull request"; exit 1; }'
CRLF = """python3 -c "assert b'\\r\\n' in open('run.bat','rb').read() and b'\\r' not in open('run.sh','rb').read()\""""
SHAPES = {
    "monorepo": Shape(
        lambda seed: None,
        "echo x > packages/7/new.txt",
        "test $(git ls-files | wc -l) -gt 20000",
        remote=monorepo,
    ),
    "lfs": Shape(
        lfs,
        "python3 -c \"open('new.bin','wb').write(b'texture'*3000)\"",
        "test $(wc -c < old.bin) -eq 3000",
        remote=push_lfs,
        merged=has_object,
    ),
    "submodules": Shape(submodule, "test -f lib/lib.py && echo x > a.txt", "test -f lib/lib.py", merged=holds("lib")),
    "crlf": Shape(
        lambda seed: write(
            seed, {".gitattributes": "*.bat eol=crlf\n*.sh eol=lf\n", "run.bat": "a\n", "run.sh": "b\n"}
        ),
        "echo more >> run.sh",
        CRLF,
    ),
    "names": Shape(
        lambda seed: write(
            seed, {"readme.md": "small\n", "ünï/é.txt": "é\n", "e\u0301.txt": "other\n", "-x": "dash\n"}
        ),
        "echo x > 'ünï/ø.txt'",
        "test -f 'ünï/é.txt' -a -f readme.md -a -f README.md",
        merged=holds("ünï/ø.txt", "README.md", "readme.md"),
    ),
    "symlinks": Shape(
        links, "ln -s real/file.txt more", "test -L dangling -a -f link", merged=holds("more", "dangling")
    ),
    "trunk": Shape(lambda seed: None, "echo x > a.txt", branch="trunk", merged=holds("a.txt")),
    "tags": Shape(
        lambda seed: None,
        "git describe --tags && echo x > a.txt",
        "test $(git tag | wc -l) -eq 300 && git describe --tags",
        remote=tags,
    ),
    "required-hook": Shape(
        lambda seed: None,
        "echo x > a.txt",
        remote=hook("pre-receive", TICKET),
        refused="every commit on main names its Ticket",
    ),
    "protected": Shape(
        lambda seed: None, "echo x > a.txt", remote=hook("update", PROTECTED), refused="main is a protected branch"
    ),
    "sparse": Shape(
        lambda seed: write(seed, {"far/away.txt": "far\n", "near/here.txt": "near\n"}),
        "git sparse-checkout set near && echo x > near/new.txt",
        "test -f far/away.txt",
        merged=holds("far/away.txt", "near/new.txt"),
    ),
}


@dataclass
class Slung:
    town: QuickTown
    remotes: dict[str, Path]
    beads: dict[str, str]


def make(town: QuickTown, name: str, shape: Shape) -> Path:
    remote, seed = town.folder / f"{name}.git", town.folder / f"{name}.seed"
    git(town.folder, "init", "-q", "--bare", "-b", shape.branch, str(remote))
    git(town.folder, "init", "-q", "-b", shape.branch, str(seed))
    write(seed, {"README.md": f"{name}\n"})
    shape.fill(seed)
    git(seed, "add", ".")
    git(seed, "commit", "-qm", "first")
    git(seed, "push", "-q", "--no-verify", str(remote), shape.branch)
    shape.remote(seed, remote)
    return remote


@pytest.fixture(scope="module")
def slung() -> Iterator[Slung]:
    with supervised_town(SETTINGS) as town:
        remotes, beads = {}, {}
        for number, (name, shape) in enumerate(SHAPES.items()):
            remotes[name] = make(town, name, shape)
            gate = f"shape={shape.gate}"
            town.run("gt", "rig", "add", name, str(remotes[name]), "--prefix", f"q{number}", "--gate", gate)
            beads[name] = town.bead(f"work on {name}", rig=name)
            town.sling(
                beads[name], f"{shape.work} && git add -A && git commit -qm work && gt done; sleep 300", rig=name
            )
        yield Slung(town, remotes, beads)


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if not shape.refused])
def test_it_lands_and_the_target_holds_all_of_it(slung: Slung, name: str) -> None:
    shape, bead, remote = SHAPES[name], slung.beads[name], slung.remotes[name]

    def merged() -> bool:
        state = slung.town.job(bead).state
        assert state not in {JobState.BLOCKED, JobState.ABANDONED}, slung.town.json("gt", "job", "show", bead)
        return state is JobState.MERGED

    wait_until(f"{name} to be merged", merged)
    assert slung.town.job(bead).reworks == 0
    shape.merged(remote, shape.branch)


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape.refused])
def test_a_remote_that_refuses_it_is_told_in_its_words(slung: Slung, name: str) -> None:
    shape = SHAPES[name]

    def told() -> list[Any]:
        return [each for each in slung.town.escalations() if shape.refused in str(each) and name in str(each)]

    wait_until(f"a person to hear of {name}", told)
    assert slung.town.job(slung.beads[name]).state is not JobState.MERGED
    assert git(slung.remotes[name], "log", "--format=%s", shape.branch).split() == ["first"]


@pytest.mark.parametrize(("gate", "outcome"), [("t=test -s README.md", "passed"), ("t=test -s missing.md", "failed")])
def test_a_check_at_rig_add_runs_the_gates_on_the_branch_itself(slung: Slung, gate: str, outcome: str) -> None:
    town, name = slung.town, f"checked{outcome}"
    remote = make(town, name, Shape(lambda seed: None, work="true"))
    found = town.json("gt", "rig", "add", name, str(remote), "--prefix", f"c{outcome[0]}", "--gate", gate, "--check")
    assert found["found"]["gates"]["outcome"] == outcome
    assert git(remote, "log", "--format=%s", "main").split() == ["first"]


# --- trees that no git command would write -------------------------------------------------------

GOOD = 3
HOSTILE = {
    "long-name": "a name has 300 bytes",
    "deep": "folders are more than 1000 deep",
    "long-path": "a path has",
    "dot-git": "hasDotgit",
    "dot-dot": "hasDotdot",
    "slash": "fullPathname",
    "twice": "duplicateEntries",
    "no-blob": "1212121212",
    "no-tree": "1212121212",
    "blob-for-tree": "not a tree",
    # Less one for each file that had landed before the agent began.
    "bomb": "the work has 9999999999",
    "small-bomb": "the work has 9999",
}
"""what people are told of each kind of hostile_agent.py"""


def refusal(town: QuickTown, bead: str) -> str:
    with town.record() as ledger:
        return next((event.detail for event in ledger.job_events(bead) if event.event == "work_refused"), "")


def test_hostile_trees_are_refused_with_what_is_wrong_their_polecats_can_be_freed_and_the_others_land(
    slung: Slung,
) -> None:
    town = slung.town
    town.run("gt", "rig", "set", "shop", "--max-polecats", str(len(HOSTILE) + GOOD))
    assert set(HOSTILE) == set(hostile_agent.KINDS)
    program = shlex.join([sys.executable, hostile_agent.__file__])
    hostile = {kind: town.bead(f"hostile {kind}") for kind in HOSTILE}
    for kind, bead in hostile.items():
        town.sling(bead, f"{program} {kind}")
    good = [town.bead(f"good {number}") for number in range(GOOD)]
    for bead in good:
        town.sling(bead, shell_agent(file=f"{bead}.py"))
    # What each tree may cost in CPU is measured by tests/activities/gates/test_made_trees.py.
    wait_until("the good ones to land", lambda: all(town.landed(bead) for bead in good))
    for kind, bead in hostile.items():
        words = wait_until(f"{kind} to be refused", partial(refusal, town, bead))
        assert HOSTILE[kind] in words, kind
    assert not [bead for bead in hostile.values() if town.landed(bead)]

    for bead in hostile.values():
        town.run("gt", "job", "cancel", bead)

    def all_free() -> bool:
        return all(town.job(bead).state is JobState.ABANDONED for bead in hostile.values())

    wait_until("the polecats to be free", all_free)
    listed = town.run("gt", "polecat", "parked", "list", "--rig", "shop").stdout
    assert not [bead for bead in hostile.values() if bead not in listed], listed
    after = town.bead("after")
    town.sling(after, shell_agent(file="after.py"))
    town.wait_closed(after)
