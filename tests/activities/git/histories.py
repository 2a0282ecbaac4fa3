"""Small histories of two sides that are to be merged, made by hypothesis; and git as anybody runs it on them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from tests.activities.workshop import git

PLAIN, RUNNABLE, LINK, SUBMODULE = "100644", "100755", "120000", "160000"
CUSTOM_DRIVERS = ("odd", 'a=b"c\\d', "odd.name")
_NAMES = ("notes.txt", "lib/a.txt", "lib/b.txt", "lib/deep/c.txt", "src/x y.txt", "ünï.md", "CHANGES", "lib/more/d.txt")
_NEW_NAMES = ("moved.txt", "src/a.txt", "lib/deep/e.txt", "other/a.txt", "lib/new.txt", "CHANGES.md", "lib2/b.txt")
_FOLDERS = ("lib", "lib/deep", "src", "other", "lib2")
_PATTERNS = ("*", "*.txt", "CHANGES", "notes.txt", "/lib/*", "lib/**", "a.txt", '"x y.txt"', "ünï.md", "deep/*.txt")
_ATTRIBUTES = (
    "merge=union", "merge=union", "merge=union", "-merge", "binary", "merge=ours", "merge=text", "merge=binary",
    "merge", "!merge", "-text", "text", "text=auto", "eol=crlf", "text eol=lf", "mine", "conflict-marker-size=4",
    "ident", "working-tree-encoding=UTF-16", "merge=lfs filter=lfs -text", "merge=",
    *(f"merge={name}" for name in CUSTOM_DRIVERS),
)  # fmt: skip
_ATTRIBUTE_FILES = (".gitattributes", ".gitattributes", "lib/.gitattributes", "lib/deep/.gitattributes")


class File(NamedTuple):
    mode: str
    content: bytes
    """of a submodule, the commit"""


Files = dict[str, File]


@dataclass
class Commit:
    files: Files
    parents: tuple[int, ...] = ()


@dataclass
class History:
    """Commits, each after its parents; the last of each side are to be merged into the first side's."""

    commits: list[Commit] = field(default_factory=list)
    sides: list[int] = field(default_factory=list)

    def add(self, files: Files, *parents: int) -> int:
        self.commits.append(Commit(files, parents))
        return len(self.commits) - 1


def put(files: Files, path: str, file: File) -> None:
    """Put `file` there, and what is in its way aside."""
    for other in list(files):
        if other == path or other.startswith(f"{path}/") or path.startswith(f"{other}/"):
            del files[other]
    files[path] = file


def lines(seed: int, count: int) -> list[bytes]:
    return [b"line %d of %d: %x" % (number, seed, (number * 7919 + seed * 104729) % 65521) for number in range(count)]


@st.composite
def attributes(draw: st.DrawFn) -> bytes:
    rows = draw(st.lists(st.tuples(st.sampled_from(_PATTERNS), st.sampled_from(_ATTRIBUTES)), min_size=1, max_size=3))
    macro = "[attr]mine merge=union\n" if draw(st.booleans()) else ""
    return (macro + "".join(f"{pattern} {value}\n" for pattern, value in rows)).encode()


@st.composite
def base_files(draw: st.DrawFn) -> Files:
    files: Files = {}
    for seed, name in enumerate(_NAMES):
        if draw(st.integers(0, 3)):
            content = b"\n".join(lines(seed, draw(st.sampled_from((3, 6, 12))))) + b"\n"
            put(files, name, File(draw(st.sampled_from((PLAIN, PLAIN, RUNNABLE))), content))
    if draw(st.integers(0, 4)) == 0:
        put(files, "vendor", File(SUBMODULE, b"1" * 40))
    if draw(st.integers(0, 4)) == 0:
        put(files, "link", File(LINK, b"notes.txt"))
    if draw(st.integers(0, 3)):
        put(files, draw(st.sampled_from(_ATTRIBUTE_FILES)), File(PLAIN, draw(attributes())))
    return files


def _edit(draw: st.DrawFn, files: Files, path: str) -> None:
    mode, content = files[path]
    if mode == SUBMODULE:
        files[path] = File(mode, draw(st.sampled_from((b"2", b"3"))) * 40)
        return
    rows = content.split(b"\n")
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(rows) - 1))
        word = draw(st.sampled_from((b"red", b"green", b"blue")))
        how = draw(st.sampled_from(("replace", "insert", "append", "delete")))
        if how == "replace":
            rows[place] = word
        elif how == "insert":
            rows.insert(place, word)
        elif how == "append":
            rows.insert(len(rows) - 1, word)
        elif len(rows) > 1:
            del rows[place]
    files[path] = File(mode, b"\n".join(rows) if mode != LINK else rows[0][:60] or b"x")


def _rename(draw: st.DrawFn, files: Files, path: str) -> None:
    put(files, draw(st.sampled_from(_NEW_NAMES)), files.pop(path))


def _rename_and_edit(draw: st.DrawFn, files: Files, path: str) -> None:
    name = draw(st.sampled_from(_NEW_NAMES))
    put(files, name, files.pop(path))
    _edit(draw, files, name)


def _move_folder(draw: st.DrawFn, files: Files, path: str) -> None:
    source, place = draw(st.sampled_from(_FOLDERS)), draw(st.sampled_from(_FOLDERS))
    for name in [name for name in files if name.startswith(f"{source}/")]:
        put(files, f"{place}/{name[len(source) + 1 :]}", files.pop(name))


def _delete(draw: st.DrawFn, files: Files, path: str) -> None:
    del files[path]


def _change_mode(draw: st.DrawFn, files: Files, path: str) -> None:
    mode, content = files[path]
    files[path] = File({PLAIN: RUNNABLE, RUNNABLE: PLAIN}.get(mode, mode), content)


def _become_link(draw: st.DrawFn, files: Files, path: str) -> None:
    files[path] = File(LINK, draw(st.sampled_from((b"CHANGES", b"lib/a.txt", b"../out"))))


def _become_submodule(draw: st.DrawFn, files: Files, path: str) -> None:
    files[path] = File(SUBMODULE, draw(st.sampled_from((b"4", b"5"))) * 40)


def _become_folder(draw: st.DrawFn, files: Files, path: str) -> None:
    put(files, f"{path}/inner.txt", files[path])


def _become_file(draw: st.DrawFn, files: Files, path: str) -> None:
    put(files, draw(st.sampled_from(_FOLDERS)), File(PLAIN, b"a file\n"))


def _become_binary(draw: st.DrawFn, files: Files, path: str) -> None:
    files[path] = File(PLAIN, b"\0\1" + draw(st.sampled_from((b"a", b"b"))))


def _change_line_ends(draw: st.DrawFn, files: Files, path: str) -> None:
    mode, content = files[path]
    if mode in {PLAIN, RUNNABLE}:
        files[path] = File(mode, content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def _add(draw: st.DrawFn, files: Files, path: str) -> None:
    content = b"\n".join(lines(draw(st.integers(20, 22)), draw(st.sampled_from((1, 6))))) + b"\n"
    put(files, draw(st.sampled_from(_NEW_NAMES)), File(PLAIN, content))


def _set_attributes(draw: st.DrawFn, files: Files, path: str) -> None:
    put(files, draw(st.sampled_from(_ATTRIBUTE_FILES)), File(PLAIN, draw(attributes())))


_CHANGES: Sequence[Callable[[st.DrawFn, Files, str], None]] = (
    _edit, _edit, _edit, _edit, _edit, _rename, _rename_and_edit, _move_folder, _delete, _change_mode, _become_link,
    _become_submodule, _become_folder, _become_file, _become_binary, _change_line_ends, _add, _add, _set_attributes,
)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, files: Files) -> Files:
    after = dict(files)
    for change in draw(st.lists(st.sampled_from(_CHANGES), min_size=1, max_size=4)):
        if after:
            change(draw, after, draw(st.sampled_from(sorted(after))))
    return after


def _disputed(draw: st.DrawFn, files: Files, path: str) -> Files:
    """Both sides edit one file, at the same or at neighbouring places: where attributes decide."""
    after = dict(files)
    if path in after:
        _edit(draw, after, path)
    return after


@st.composite
def histories(draw: st.DrawFn, sides: int = 2) -> History:
    """Sides from one base, of up to three commits each; of two, some merged each other on the way."""
    history = History()
    files = draw(base_files())
    path = draw(st.sampled_from(_NAMES))
    put(files, path, File(PLAIN, b"\n".join(lines(9, draw(st.sampled_from((6, 3, 12))))) + b"\n"))
    pattern = draw(st.sampled_from(("*", path.rpartition("/")[2].replace(" ", "?"), "/lib/**", "*.txt")))
    if draw(st.integers(0, 3)):
        value = draw(st.sampled_from(_ATTRIBUTES))
        above = files.get(".gitattributes", File(PLAIN, b"")).content
        files[".gitattributes"] = File(PLAIN, above + f"{pattern} {value}\n".encode())
    base = history.add(files)

    def side(start: int, steps: tuple[int, ...]) -> int:
        at = start
        for _ in range(draw(st.sampled_from(steps))):
            at = history.add(draw(changed(history.commits[at].files)), at)
        return at

    if draw(st.integers(0, 9)) == 9:
        history.sides = [side(base, (0, 1, 2)) for _ in range(sides)]
        return history
    starts = [history.add(_disputed(draw, files, path), base) for _ in range(sides)]
    history.sides = [side(start, (0, 1, 2)) for start in starts]
    if sides == 2 and draw(st.integers(0, 4)) == 4:
        ours, theirs = history.sides
        crossed = [history.add(_disputed(draw, history.commits[at].files, path), at, other)
                   for at, other in ((ours, theirs), (theirs, ours))]  # fmt: skip
        history.sides = [side(at, (0, 1, 1)) for at in crossed]
    return history


def write(history: History, repository: Path) -> list[str]:
    """Write the commits into a bare repository; those of the sides that are to be merged."""
    stream: list[bytes] = []
    for number, commit in enumerate(history.commits):
        stream.append(
            b"commit refs/heads/made\nmark :%d\ncommitter A <a@example.org> 1700000000 +0000\n" % (number + 1)
        )
        stream.append(b"data 5\nwork\n")
        stream += [b"%s :%d\n" % (b"merge" if place else b"from", of + 1) for place, of in enumerate(commit.parents)]
        stream.append(b"deleteall\n")
        for path, (mode, content) in commit.files.items():
            name = path.encode()
            if mode == SUBMODULE:
                stream.append(b"M 160000 %s %s\n" % (content, name))
            else:
                stream.append(b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), name, len(content), content))
        stream.append(b"reset refs/heads/made\n\n")
    refs = [f"refs/heads/side-{number}" for number in range(len(history.sides))]
    for ref, of in zip(refs, history.sides, strict=True):
        stream.append(b"reset %s\nfrom :%d\n\n" % (ref.encode(), of + 1))
    git(repository, "fast-import", "--quiet", "--force", stdin=b"".join(stream))
    return git(repository, "rev-parse", *refs).split()


class OrdinaryClone:
    """A person's clone with a checkout, in which `git merge` is run.

    Args:
        repository: whose objects it has.
    """

    def __init__(self, repository: Path, folder: Path) -> None:
        self.folder = folder
        self._calls = folder.with_name(f"{folder.name}.calls")
        git(folder.parent, "clone", "--quiet", "--shared", "--no-checkout", str(repository), str(folder))
        git(folder, "config", "merge.ours.driver", "true")
        for name in CUSTOM_DRIVERS:
            git(folder, "config", f"merge.{name}.driver", f"echo called >> '{self._calls}'; exit 1")
        self._fresh = folder.with_name(f"{folder.name}.fresh")
        shutil.copytree(folder, self._fresh)

    def start(self, commit: str) -> None:
        """Check `commit` out where nothing was before."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._fresh, self.folder)
        self._calls.unlink(missing_ok=True)
        git(self.folder, "checkout", "--quiet", "--detach", commit)

    def run(self, *command: str) -> str | None:
        """Run `git merge` or another command that merges: the tree that comes of it, None for a conflict.

        A merge driver that is not git's own is a conflict wherever it is called.
        """
        # Files whose line ends are not those of their attributes look changed to git as long as
        # they could be younger than the index; then it refuses to merge at all.
        os.utime(self.folder / ".git/index", (4e9, 4e9))
        done = subprocess.run(
            ["git", *command], cwd=self.folder, capture_output=True, env=_person(), check=False
        )  # fmt: skip
        called = self._calls.exists()
        self._calls.unlink(missing_ok=True)
        words = done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")
        if called or done.returncode != 0:
            assert called or "CONFLICT" in words, words
            return None
        return git(self.folder, "rev-parse", "HEAD^{tree}")

    def squash(self, commit: str) -> str | None:
        """Bring `commit` in as one commit: the tree that comes of it, or None and all as before."""
        if self.run("merge", "--quiet", "--squash", commit) is None:
            git(self.folder, "reset", "--quiet", "--hard")
            git(self.folder, "clean", "-ffdxq")
            return None
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message", "squashed")
        return git(self.folder, "rev-parse", "HEAD^{tree}")


def _person() -> dict[str, str]:
    return {
        **os.environ,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
