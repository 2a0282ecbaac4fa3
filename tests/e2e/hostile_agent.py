"""An agent that commits a tree which no git command would write, hands it in, and stays: `python FILE KIND`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from cli.session.agent_done import tell
from cli.session.agent_session import Session
from tests.activities.git.objects import Objects

KINDS = {
    "long-name": lambda made: made.tree([("100644", b"n" * 300, "x")]),
    "deep": lambda made: made.nested(1, 2500),
    "long-path": lambda made: made.folders(b"d" * 200, 25),
    "dot-git": lambda made: made.tree([("40000", b".git", [("100644", b"config", "x")])]),
    "dot-dot": lambda made: made.tree([("40000", b"..", [("100644", b"f", "x")])]),
    "slash": lambda made: made.tree([("100644", b"a/../../f", "x")]),
    "twice": lambda made: made.tree([("100644", b"f", "x"), ("100644", b"f", "y")]),
    "no-blob": lambda made: made.write("tree", b"100644 f\0" + b"\x12" * 20),
    "no-tree": lambda made: made.write("tree", b"40000 d\0" + b"\x12" * 20),
    "blob-for-tree": lambda made: made.write("tree", b"40000 d\0" + bytes.fromhex(made.write("blob", b"x"))),
    "bomb": lambda made: made.nested(10, 12),
    "small-bomb": lambda made: made.nested(10, 6),
}


def main(kind: str) -> None:
    session = Session(Path(os.environ["GT_TASK_FILE"]).parent)
    objects = Objects(Path(".git/objects"))
    head = objects.commit_tree_on(Path(), session.bead, KINDS[kind](objects))
    about = {"bead": session.bead, "attempt": session.attempt, "status": "completed", "head_sha": head}
    # `gt done` finds a dirty tree, or asks git for ever: an agent that means harm writes what it would have written.
    tell(session, {**about, "message": "", "at": ""})
    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
