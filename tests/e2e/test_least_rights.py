"""What an agent may not do, tried by an agent of a living town."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import session_folder
from agents.tokens import new_token
from models.mayor.escalations import EscalationStatus
from tests.e2e.living_town import git, wait_until
from tests.e2e.quick_town import QuickTown

REFUSED = (
    "gt refinery gate remove syntax --rig shop", "gt refinery clear --rig shop", "gt down", "gt deacon stop",
    "gt rig remove shop --yes", "gt config agent.may gt", "gt escalate list", "gt job cancel $GT_BEAD",
    "bd close $GT_BEAD", "bd list", "bd show sh-999", "bd create another --rig shop",
)  # fmt: skip
ALLOWED = ("bd show $GT_BEAD", "bd show $GT_BEAD -o json", "gt hook", "gt prime", "gt heartbeat", "gt mail inbox")
AGENT = f"""
place="${{GT_TASK_FILE%/*}}"
try() {{ "$@" >/dev/null 2>>"$place/said"; echo "$?" >> "$place/codes"; }}
{"; ".join(f"try {line}" for line in (*REFUSED, *ALLOWED))}
echo 'x = 1' > a.py; git add a.py; git commit -qm 'add a.py'
try git push -q origin HEAD:main
touch "$place/tried"
while [ ! -e "$place/go" ]; do sleep 0.1; done
gt done
"""


@pytest.fixture
def town() -> Iterator[QuickTown]:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = QuickTown(Path(folder))
        try:
            living.init()
            living.up()
            living.configure({"health.check_interval": 3})
            living.add_rig()
            yield living
        finally:
            living.close()


def told(town: QuickTown, word: str) -> list[EscalationStatus]:
    return [one for one in town.escalations() if word in one.message]


def test_an_agent_keeps_to_its_own_bead_and_what_is_done_in_its_name_is_told(town: QuickTown) -> None:
    before = git(town.remote, "rev-parse", "main")
    bead = town.bead("try everything")
    town.sling(bead, AGENT)
    wait_until("the agent to have tried", lambda: list(town.root.glob("run/sessions/**/tried")))
    (folder,) = (path.parent for path in town.root.glob("run/sessions/**/tried"))

    codes = (folder / "codes").read_text().split()
    assert codes[: len(REFUSED)] == ["5"] * len(REFUSED), (folder / "said").read_text()
    assert codes[len(REFUSED) : -1] == ["0"] * len(ALLOWED), (folder / "said").read_text()
    assert codes[-1] != "0", "a push"
    assert git(town.remote, "rev-parse", "main") == before
    with town.record() as ledger:
        assert [gate.name for gate in ledger.rig("shop").gates] == ["syntax"]

    # Somebody hands it in who is not that agent, and pushes under a polecat's name and under a stranger's.
    forged = {
        "status": "nothing-to-do",
        "bead": bead,
        "attempt": 1,
        "head_sha": "",
        session_folder.TOKEN_KEY: new_token(),
    }
    session_folder.write_json(folder / session_folder.DONE, forged)
    seed = town.folder / "shop.seed"
    for name, email in (("toast", "toast@shop.gastown.invalid"), ("Eve", "eve@example.org")):
        author = f"{name} <{email}>"
        git(seed, "commit", "-q", "--allow-empty", "-m", f"by {name}", "--author", author)
        git(seed, "push", "-q", str(town.remote), "HEAD:main")

    (intent,) = wait_until("the forged intent to be told", lambda: told(town, "without this attempt's token"))
    assert (intent.level, intent.kind) == ("L3", "escalation")
    wait_until("both pushes to be told", lambda: told(town, "by toast") and told(town, "by Eve"))
    assert {one.severity for one in told(town, "by toast")} == {"high"}
    assert {one.severity for one in told(town, "by Eve")} == {"low"}
    assert town.status_of(bead) == "in_progress"

    (folder / "go").touch()
    town.wait_closed(bead)
    assert len(town.landed(bead)) == 1
    assert len(told(town, "without this attempt's token")) == 1
    assert len(told(town, "by toast")) == len(told(town, "by Eve")) == 1
