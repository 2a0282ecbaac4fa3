"""What the landing clone remembers of a target: its last tip, and tips that were taken off it by force.

A change may stand on commits that a person has taken off the target since. A plain merge would bring them back in the
change's name. So a change is merged by the last of them that it stands on (its fork) as if that were the merge base:
only what it adds to it lands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from activities.git.command import GitRepo
from activities.git.merging.changes import landed_as
from models import names
from models.ledger.records import MergeRequest
from models.refinery.messages import ForeignCommit, Rewound
from policies.refinery.merge_message import BEAD_TRAILER, CHANGE_TRAILER
from services.git_config import IDENTITY

MOST_FOREIGN: Final = 50
"""foreign commits of one look, the latest"""
MOST_SUBJECT: Final = 200
CHANGE_LINE: Final = re.compile(rf"^{CHANGE_TRAILER}: [0-9a-f]{{40,64}}$", re.MULTILINE)
POLECAT_LINE: Final = re.compile(r"^Polecat: [^/\n]+/([a-z][a-z0-9-]*)$", re.MULTILINE)
MOST_LISTED: Final = 5
"""removed commits that a message names"""
_FROM_A_CLONE: Final = (
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--upload-pack=git -c uploadpack.allowAnySHA1InWant=true upload-pack",
)
_REMEMBERED: Final = 50
"""removed tips of a target"""


class Removed(NamedTuple):
    """What the target has lost."""

    tips: tuple[str, ...] = ()
    """commits that were its tip, or in its history, and are not any more"""
    elsewhere: tuple[str, ...] = ()
    """where jobs began on another branch than the target: never on it, but not those jobs' own work either"""

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.tips, *self.elsewhere)


class Fork(NamedTuple):
    """Where a change leaves what its target has lost."""

    sha: str
    """the last commit of the change that the target had, taken as the merge base; "": the change cannot land"""
    why: str
    """for whoever has to mend it"""


class TargetHistory:
    """One target's past, as the landing clone has seen it. Callers hold the clone's lock where refs are written.

    Args:
        work_clone: the rig's other clone on this host, which jobs begin in; it need not exist.
    """

    def __init__(self, repo: GitRepo, target: str, work_clone: Path) -> None:
        self._work_clone = work_clone
        self._repo = repo
        self._target = target
        self._place = names.valid_branch(target).replace("/", "%")

    @property
    def last_ref(self) -> str:
        """Where the last tip is kept: without folders, so that none that is gone is in another one's way."""
        return f"refs/gastown/target/{self._place}"

    def last(self) -> str | None:
        """The target's tip as it was seen last; None: never."""
        return self._repo.resolve(self.last_ref)

    def known_tips(self, bases: Iterable[str]) -> tuple[str, ...]:
        """Commits that the target is known to have had last, out of what this host has seen and `bases`."""
        worked = GitRepo(self._work_clone)
        seen = worked.resolve(f"refs/remotes/origin/{self._target}") if self._work_clone.exists() else None
        return tuple(dict.fromkeys(sha for sha in (self.last(), seen, *bases) if sha))

    def saw(self, sha: str) -> str | None:
        """The target stands at `sha`, which the clone has. A tip that this leaves behind is remembered first.

        Returns:
            Where it was seen last; None: never.
        """
        before = self.last()
        if before == sha:
            return before
        if before is not None and not self._repo.is_ancestor(before, sha):
            self._repo.run("update-ref", f"refs/gastown/removed/{self._place}/{before}", before)
            self._forget_old()
        self._repo.run("update-ref", self.last_ref, sha)
        return before

    def foreign(self, before: str | None, tip: str, rig: str) -> list[ForeignCommit]:
        """What came to the target between two looks and is no landing of the town, oldest first.

        Args:
            before: the tip of the earlier look; None: there was none, and all is as it should be.
            rig: whose polecats are known by the address that they commit under.
        """
        if before is None or before == tip:
            return []
        form = "--format=%H%x00%s%x00%an <%ae>%x00%ce%x00%B%x00"
        options = ("--first-parent", f"--max-count={MOST_FOREIGN}", form)
        fields = self._repo.run("log", *options, f"{before}..{tip}", "--").text.split("\0")
        found = []
        landed: set[str] = set()
        """polecats whose work another host has landed meanwhile; commits of theirs may be a part of that"""
        for start in range(0, len(fields) - 5 + 1, 5):
            sha, subject, author, committer, message = fields[start : start + 5]
            if committer == IDENTITY[1] or CHANGE_LINE.search(message):
                landed.update(POLECAT_LINE.findall(message))
                continue
            ours = re.search(rf"<([a-z][a-z0-9-]*)@{re.escape(rig)}\.gastown\.invalid>$", author)
            found.append(
                ForeignCommit(
                    target=self._target,
                    sha=sha.strip(),
                    subject=subject[:MOST_SUBJECT],
                    author=author,
                    polecat=ours[1] if ours else "",
                )
            )
        return [each for each in reversed(found) if each.polecat not in landed]

    def held(self, changes: Sequence[MergeRequest], tip: str) -> list[MergeRequest]:
        """Those of the changes whose very commits the target holds."""
        if not changes:
            return []
        outside = set(self._listed(*(change.head_sha for change in changes), f"^{tip}"))
        return [change for change in changes if change.head_sha not in outside]

    def pushed(self, change: MergeRequest, tip: str) -> ForeignCommit | None:
        """The head of a change that the target holds although no landing of the town has put it there.

        None where the change adds nothing to where its job began: then nobody has pushed it.
        """
        head = change.head_sha
        began = [f"^{base.sha}" for base in change.bases if self._repo.resolve(base.sha)]
        if (
            landed_as(self._repo, change.bead, head, tip, here=True)
            or not began
            or not self._listed("--max-count=1", head, *began)
        ):
            return None
        shown = self._repo.run("log", "-1", "--format=%s%x00%an <%ae>", head, "--").text.rstrip("\n")
        subject, _, author = shown.partition("\0")
        return ForeignCommit(
            target=self._target,
            sha=head,
            subject=subject[:MOST_SUBJECT],
            author=author,
            polecat=change.polecat,
            bead=change.bead,
        )

    def landed(self, base_sha: str, tip: str) -> None:
        """The town itself has moved the target from `base_sha` to `tip`, which descends from it."""
        if self._repo.attempt("update-ref", self.last_ref, tip, base_sha).exit_code != 0:
            self.saw(tip)

    def removed(self, tip: str, changes: Iterable[MergeRequest]) -> Removed:
        """What is not in the history of `tip` any more: of the tips remembered, and of where the changes began."""
        known = self._repo.run(
            "for-each-ref", f"--no-merged={tip}", "--format=%(objectname)", f"refs/gastown/removed/{self._place}/"
        ).text.split()
        bases = {base.sha: base.target for change in changes for base in change.bases}
        lost = self._lost(list(bases), tip) if bases else []
        tips = [*known, *(sha for sha in lost if bases[sha] == self._target)]
        return Removed(tuple(dict.fromkeys(tips)), tuple(sha for sha in lost if bases[sha] != self._target))

    def _lost(self, bases: Sequence[str], tip: str) -> list[str]:
        """Those that `tip` does not hold. One that no clone of this host has any more counts as held."""
        # One command for all: as a rule none is lost, and then nothing more is asked.
        answer = self._repo.attempt("rev-list", "--max-count=1", *bases, f"^{tip}", "--")
        if answer.exit_code == 0 and not answer.word:
            return []
        for sha in bases:
            if self._repo.resolve(sha) is None and self._work_clone.exists():
                # The remote does not give away what no ref of it holds; the clone that the job began in has it.
                self._repo.attempt("fetch", *_FROM_A_CLONE, "--", str(self._work_clone), sha)
        return [sha for sha in bases if self._repo.resolve(sha) and not self._repo.is_ancestor(sha, tip)]

    def forks(self, changes: Iterable[MergeRequest], tip: str, removed: Removed) -> dict[str, Fork]:
        """By merge request, for each change that holds what the target has lost, or copies of it."""
        found: dict[str, Fork] = {}
        for change in changes if removed.all else ():
            head = change.head_sha
            try:
                fork = self.fork(head, tip, removed)
            except SeveralForks as error:
                found[change.id] = Fork("", f"it stands on commits of several histories that were given up: {error}")
                continue
            copies = self.copies(head, tip, removed, change.bead)
            if fork == head:
                found[change.id] = Fork("", f"it has nothing of its own.\n{self._explained(head, tip)}")
            elif copies:
                found[change.id] = Fork("", self._explained_copies(copies))
            elif fork is not None:
                found[change.id] = Fork(fork, self._explained(fork, tip))
        return found

    def fork(self, head: str, tip: str, removed: Removed) -> str | None:
        """The last commit of `head` that the target had and lost; None where it stands on none.

        Raises:
            SeveralForks: it stands on several, none of which holds the others.
        """
        found: set[str] = set()
        for lost in removed.all:
            common = self._repo.attempt("merge-base", "--all", head, lost).text.split()
            found.update(sha for sha in common if not self._repo.is_ancestor(sha, tip))
        if len(found) > 1:
            found = set(self._repo.run("merge-base", "--independent", *found).text.split())
        if len(found) > 1:
            raise SeveralForks(sorted(found))
        return found.pop() if found else None

    def copies(self, head: str, tip: str, removed: Removed, bead: str) -> tuple[str, ...]:
        """Removed commits of which `head` has copies, as a plain rebase makes them; the bead's own landings aside."""
        found: list[str] = []
        for lost in removed.tips:
            marked = self._repo.attempt("rev-list", "--cherry-mark", f"{head}...{lost}", f"^{tip}", "--")
            alike = {line[1:] for line in marked.text.splitlines() if line.startswith("=")}
            originals = alike - set(self._listed(head, f"^{lost}", f"^{tip}")) if alike else set()
            found += [sha for sha in sorted(originals) if bead not in self._beads(sha)]
        return tuple(dict.fromkeys(found))

    def rewound(self, tip: str, removed: Removed) -> tuple[Rewound, ...]:
        """What to tell people: once for each place where the target's history was left."""
        left: dict[str, list[str]] = {}
        for lost in removed.tips:
            left.setdefault(self._repo.attempt("merge-base", lost, tip).word, []).append(lost)
        return tuple(
            Rewound(
                target=self._target,
                left_sha=place,
                target_sha=tip,
                removed=int(self._repo.run("rev-list", "--count", *lost, f"^{tip}", "--").word),
                commits=self.named(lost, tip),
            )
            for place, lost in left.items()
        )

    def named(self, commits: Sequence[str], tip: str) -> tuple[str, ...]:
        """The latest commits in these histories that `tip` lacks, each as a line: short name and subject."""
        shown = self._repo.run("log", f"--max-count={MOST_LISTED}", "--format=%H %s", *commits, f"^{tip}", "--").text
        return tuple(f"{line[:12]} {line.partition(' ')[2]}" for line in shown.splitlines())

    def _explained(self, fork: str, tip: str) -> str:
        """For an agent: what the target lost, and how to leave it behind."""
        lines = "\n".join(f"- {line}" for line in self.named([fork], tip))
        return (
            f"{self._target} was rewritten: it does not have these commits any more that the branch stands on:\n"
            f"{lines}\n"
            f"Rebase the branch's own commits without them (a plain rebase would bring them back): "
            f"git fetch origin && git rebase --onto origin/{self._target} {fork}"
        )

    def _explained_copies(self, originals: Sequence[str]) -> str:
        lines = "\n".join(
            f"- {self._repo.run('log', '-1', '--format=%h %s', sha, '--').word}" for sha in originals[:MOST_LISTED]
        )
        return (
            f"{self._target} was rewritten without these commits, and the branch has copies of them:\n{lines}\n"
            f"Take them out of the branch: git rebase --onto COPY^ COPY for each copy that "
            f"`git log origin/{self._target}..` shows"
        )

    def _beads(self, sha: str) -> list[str]:
        form = f"--format=%(trailers:key={BEAD_TRAILER},valueonly)"
        return self._repo.run("log", "-1", form, sha, "--").text.split()

    def _listed(self, *arguments: str) -> list[str]:
        return self._repo.run("rev-list", *arguments, "--").text.split()

    def _forget_old(self) -> None:
        listed = self._repo.run(
            "for-each-ref", "--sort=-committerdate", "--format=%(refname)", f"refs/gastown/removed/{self._place}/"
        ).text.split()
        for ref in listed[_REMEMBERED:]:
            self._repo.run("update-ref", "-d", ref)


class SeveralForks(Exception):
    """A change stands on removed commits of several histories: no one commit stands for all of them."""

    def __init__(self, forks: Sequence[str]) -> None:
        super().__init__(", ".join(fork[:12] for fork in forks))
