"""What an agent may do and say from inside its sandbox, and what it may not, tried by agents of a living town."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import session_folder
from agents.tokens import new_token
from models.mayor.escalations import EscalationStatus
from tests.e2e.living_town import QUICK, git, wait_until
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


@pytest.fixture(scope="module")
def town() -> Iterator[QuickTown]:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = QuickTown(Path(folder))
        try:
            living.init()
            living.up()
            living.configure(QUICK | {"sandbox.mode": "bwrap"})
            living.add_rig()
            yield living
        finally:
            living.close()


def tried(town: QuickTown, bead: str) -> Path:
    """The session folder of the bead's first attempt, once its agent has tried all that it was told to."""
    (mark,) = wait_until("the agent to have tried", lambda: list(town.root.glob(f"run/sessions/*/*/{bead}/1/tried")))
    assert isinstance(mark, Path)
    return mark.parent


def told(town: QuickTown, word: str) -> list[EscalationStatus]:
    return [one for one in town.escalations() if word in one.message]


def test_an_agent_keeps_to_its_own_bead_and_what_is_done_in_its_name_is_told(town: QuickTown) -> None:
    before = git(town.remote, "rev-parse", "main")
    bead = town.bead("try everything")
    town.sling(bead, AGENT)
    folder = tried(town, bead)

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


# --- what it says reaches the town, as far as it may say it ---------------------------------------

SAID = {
    'bd comment $GT_BEAD "nearly done"': (0, ""),
    "gt mail send mayor -s Question 'which till?'": (0, ""),
    "bd ready": (0, ""),
    "bd show $GT_BEAD": (0, ""),
    "bd comments $GT_BEAD": (0, ""),
    "sh -c 'echo from standard input | bd comment $GT_BEAD -'": (0, ""),
    "bd comment sh-999 x": (5, "its own bead is"),
    "bd show sh-999": (5, "its own bead is"),
    "gt mail send bank/nux -s x x": (5, "do not write to"),
    "bd list": (5, "agent.may of rig shop does not name it"),
    "bd ready --town /elsewhere": (5, "--town is not an agent's to give"),
    "sh -c 'head -c 300000 /dev/zero | tr \"\\0\" x | bd comment $GT_BEAD -'": (5, "longer than 200000 bytes"),
}
BENT = {
    'cp $record.before $record; sed -i \'s/"token": "gtat_/&0/\' $record': (5, "no attempt that runs has this token"),
    'cp $record.before $record; sed -i \'s/"bd ready"/"bd list"/\' $record': (5, "does not name it"),
    "ln -sf /etc/passwd $record": (5, "is not an agent's to run"),
}
LINES = [*SAID, *("bd ready" if "token" in bend or "ln" in bend else "bd list" for bend in BENT)]
TALKER = """
place="${GT_TASK_FILE%/*}"; record="$place/session.json"
try() { echo "== $*" >>"$place/said"; "$@" >>"$place/out" 2>>"$place/said"; echo "$?" >>"$place/codes"; }
"""


def script() -> str:
    tries = [f"try {line}" for line in SAID]
    tries.append('cp "$record" "$record.before"')
    for bend, line in zip(BENT, LINES[len(SAID) :], strict=True):
        tries += [bend, f"try {line}"]
    tries.append('rm "$record"; mv "$record.before" "$record"; touch "$place/tried"')
    tries.append("echo 'x = 1' > b.py; git add b.py; git commit -qm 'add b.py'")
    tries.append('while [ ! -e "$place/go" ]; do sleep 0.1; done; gt done')
    return TALKER + "\n".join(tries)


def test_an_agent_says_what_it_may_and_nothing_in_another_s_name(town: QuickTown) -> None:
    town.configure({"agent.may": "bd comment, gt mail send, bd ready"})
    waiting = town.bead("another that is ready")
    bead = town.bead("say it")
    town.sling(bead, script())
    folder = tried(town, bead)
    said = (folder / "said").read_text()
    codes = [int(code) for code in (folder / "codes").read_text().split()]
    wanted = [*SAID.values(), *BENT.values()]
    assert codes == [code for code, _ in wanted], said
    answers = said.split("== ")[1:]
    for (code, words), line, answer in zip(wanted, LINES, answers, strict=True):
        assert words in answer, f"{line} ended {code} and said {answer}"
    assert waiting in (folder / "out").read_text()
    with town.record() as ledger:
        comments = [(one.author, one.text.strip()) for one in ledger.comments(bead)]
        (letter,) = [one for one in ledger.inbox("mayor") if one.subject == "Question"]
    author = f"shop/{folder.parents[1].name}"
    assert comments == [(author, "nearly done"), (author, "from standard input")]
    assert (letter.sender, letter.body) == (author, "which till?")

    record = session_folder.read_json(folder / session_folder.SESSION)
    assert record is not None
    (folder / "go").touch()
    town.wait_closed(bead)
    wait_until("the session to end", lambda: town.sessions() == [])
    assert list(town.town.paths.attempts.rglob("*.json")) == [], "its token is worth nothing any more"
    token = str(record[session_folder.TOKEN_KEY]).encode()
    holders = {path.name for path in town.root.rglob("*") if path.is_file() and token in path.read_bytes()}
    assert holders == {session_folder.SESSION, session_folder.DONE}, "and it is in no log"
