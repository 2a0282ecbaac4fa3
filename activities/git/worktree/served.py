"""What an agent fetches where its rig's remote is on another machine.

A session has no credentials for the remote. Its `origin` is turned to a repository of the town on this host
(`url.<here>.insteadOf`), which has the remote's branches and tags and borrows the cache clone's objects. Each start
of an attempt and each patrol brings it up to date. It takes no push.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from activities.git.clones import BLOBLESS
from activities.git.command import GitRepo
from activities.git.remote_kinds import local_path
from activities.git.worktree.polecat_repo import packed_refs, write_whole_if_new
from models import names
from models.ledger.records import Rig
from models.settings import GitSettings
from models.town import TownPaths
from services.atomic_files import write_whole

_REFUSAL: Final = "#!/bin/sh\necho 'agents do not push: commit, then run gt done' >&2\nexit 1\n"
_CONFIG: Final = (
    "[core]\n\trepositoryformatversion = 0\n\tbare = true\n[uploadpack]\n\tallowReachableSHA1InWant = true\n"
)
_TRACKED: Final = "refs/remotes/origin/"


def is_served(url: str, git: GitSettings) -> bool:
    """Whether agents fetch from the town: of a remote on this machine they need nobody's credentials.

    In a partial clone the cache has not all that a fetch may ask for: there `origin` is the remote itself.
    """
    return local_path(url) is None and git.clone != BLOBLESS


def origin_config(paths: TownPaths, rig: Rig, git: GitSettings) -> list[tuple[str, str]]:
    """Settings of a polecat's repository that turn its fetches to what is served."""
    if not is_served(rig.url, git):
        return []
    pairs = [(f"url.{paths.served(rig.name)}.insteadOf", rig.url)]
    if rig.url.lower().startswith(("http://", "https://")):
        # Git LFS contents are not served: they come from where git-lfs finds them by the remote's own address.
        endpoint = f"{rig.url.rstrip('/').removesuffix('.git')}.git/info/lfs"
        pairs += [("remote.origin.lfsurl", endpoint), (f"url.{endpoint}.insteadOf", endpoint)]
    return pairs


def serve(paths: TownPaths, rig: Rig, cache: GitRepo, git: GitSettings, tip: str = "") -> None:
    """Bring up to date what agents fetch, out of what the cache clone has of the remote.

    Args:
        tip: of the rig's branch, where the remote has it further than the cache clone knows.
    """
    if not is_served(rig.url, git):
        return
    place = paths.served(rig.name)
    for folder in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "hooks"):
        (place / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole_if_new(place / "config", _CONFIG)
    write_whole_if_new(place / "objects" / "info" / "alternates", f"{cache.git_dir / 'objects'}\n")
    hook = place / "hooks" / "pre-receive"
    if not hook.exists():
        write_whole(hook, _REFUSAL, 0o755)
    with contextlib.suppress(FileNotFoundError):
        write_whole_if_new(place / "shallow", (cache.git_dir / "shallow").read_text(encoding="ascii"))
    write_whole_if_new(place / "packed-refs", "".join(_refs(cache, rig, git, tip)))
    write_whole_if_new(place / "HEAD", f"ref: refs/heads/{names.valid_branch(rig.branch)}\n")


def _refs(cache: GitRepo, rig: Rig, git: GitSettings, tip: str) -> Iterator[str]:
    """Lines of `packed-refs`; other polecats' branches are nobody's to fetch."""
    own = f"refs/heads/{names.valid_branch(rig.branch)}"
    heading, *lines = packed_refs(cache, without=f"{_TRACKED}{git.branch_prefix}").splitlines()
    yield f"{heading}\n"
    heads: dict[str, str] = {}
    rest: list[str] = []
    for line in lines:
        sha, _, ref = line.partition(" ")
        if ref.startswith(_TRACKED):
            heads[f"refs/heads/{ref.removeprefix(_TRACKED)}"] = sha
        else:
            rest.append(f"{line}\n")
    if tip:
        heads[own] = tip
    yield from (f"{sha} {ref}\n" for ref, sha in sorted(heads.items()) if ref != "refs/heads/HEAD")
    yield from rest
