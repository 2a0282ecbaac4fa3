"""Somebody who commits: real git, run as the test's own user."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from models import names
from models.ledger.records import MergeRequest

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada Author",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada Author",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_AUTHOR_DATE": "@1700000000 +0100",
    "GIT_COMMITTER_DATE": "@1700000000 +0100",
}


LFS_ATTRIBUTES = "*.bin filter=lfs diff=lfs merge=lfs -text\n"


def git(folder: Path, *arguments: str, stdin: bytes | None = None, **environment: str) -> str:
    """Run git as the test's own user: what it printed, without the last newline."""
    done = subprocess.run(
        ["git", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", *arguments],
        cwd=folder,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        env={**os.environ, **_ENVIRONMENT, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8", "replace").rstrip("\n")


class Workshop:
    """A clone of the remote where a test makes commits and pushes them."""

    def __init__(self, remote: Path, folder: Path) -> None:
        self.remote = remote
        self.folder = folder
        git(folder.parent, "clone", "--quiet", str(remote), str(folder))

    def git(self, *arguments: str, **environment: str) -> str:
        return git(self.folder, *arguments, stdin=None, **environment)

    def at_remote(self, ref: str) -> str | None:
        """The object that the remote holds under the full name `ref`."""
        listed = git(self.remote, "for-each-ref", "--format=%(objectname) %(refname)")
        return {name: sha for sha, name in (line.split(" ") for line in listed.splitlines())}.get(ref)

    def commit(self, files: dict[str, str | bytes | None], message: str | bytes = "Change", **environment: str) -> str:
        """Commit `files` (None deletes) on what is checked out; the new commit."""
        for name, content in files.items():
            path = self.folder / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all", "--force")
        tree = self.git("write-tree")
        written = message.encode() if isinstance(message, str) else message
        sha = git(self.folder, "commit-tree", "-p", "HEAD", tree, "-F", "-", stdin=written, **environment)
        self.git("reset", "--quiet", "--hard", sha)
        return sha

    def use_lfs(self) -> None:
        """Put *.bin of the remote in Git LFS; `old.bin` is there, its content too."""
        self.git("lfs", "install", "--local", "--skip-repo")
        self.commit({".gitattributes": LFS_ATTRIBUTES, "old.bin": b"old" * 1000}, "Use LFS")
        self.git("push", "--quiet", "origin", "HEAD:main")
        self.git("lfs", "push", "--all", f"file://{self.remote}")

    def start(self, bead: str, base: str = "origin/main") -> None:
        """Check out the bead's branch, new from `base`."""
        self.git("fetch", "--quiet", "origin")
        self.git("checkout", "--quiet", "-B", names.job_branch(bead), base)

    def submit(self, bead: str, attempt: int = 1, title: str = "", target: str = "main") -> MergeRequest:
        """Push what is checked out as the bead's branch; the merge request for it."""
        head = self.git("rev-parse", "HEAD")
        branch = names.job_branch(bead)
        self.git("push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return MergeRequest(
            id=names.merge_request_id(bead, attempt),
            rig="shop",
            bead=bead,
            title=title or f"Work on {bead}",
            polecat="toast",
            attempt=attempt,
            branch=branch,
            head_sha=head,
            target=target,
            submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
        )

    def change(self, bead: str, files: dict[str, str | bytes | None], message: str | bytes = "Change") -> MergeRequest:
        """One commit on the remote's main, pushed as the bead's branch."""
        self.start(bead)
        self.commit(files, message)
        return self.submit(bead)

    def advance_main(self, files: dict[str, str | bytes | None], message: str = "Somebody else's work") -> str:
        """Put a commit on the remote's main, as a person would."""
        self.git("fetch", "--quiet", "origin")
        self.git("checkout", "--quiet", "--detach", "origin/main")
        sha = self.commit(files, message)
        self.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
        return sha
