"""What an agent says from inside its sandbox reaches the town, as far as it may say it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import session_folder
from tests.e2e.living_town import wait_until
from tests.e2e.quick_town import QuickTown

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
AGENT = """
place="${GT_TASK_FILE%/*}"; record="$place/session.json"
try() { echo "== $*" >>"$place/said"; "$@" >>"$place/out" 2>>"$place/said"; echo "$?" >>"$place/codes"; }
"""


@pytest.fixture
def town() -> Iterator[QuickTown]:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = QuickTown(Path(folder))
        try:
            living.init()
            living.up()
            living.add_rig()
            living.configure({"sandbox.mode": "bwrap"})
            yield living
        finally:
            living.close()


def script() -> str:
    tries = [f"try {line}" for line in SAID]
    tries.append('cp "$record" "$record.before"')
    for bend, line in zip(BENT, LINES[len(SAID) :], strict=True):
        tries += [bend, f"try {line}"]
    tries.append('rm "$record"; mv "$record.before" "$record"; touch "$place/tried"')
    tries.append("echo 'x = 1' > a.py; git add a.py; git commit -qm 'add a.py'")
    tries.append('while [ ! -e "$place/go" ]; do sleep 0.1; done; gt done')
    return AGENT + "\n".join(tries)


def test_an_agent_says_what_it_may_and_nothing_in_another_s_name(town: QuickTown) -> None:
    town.configure({"agent.may": "bd comment, gt mail send, bd ready"})
    waiting = town.bead("another that is ready")
    bead = town.bead("say it")
    town.sling(bead, script())
    (tried,) = wait_until("the agent to have tried", lambda: list(town.root.glob("run/sessions/**/tried")))
    folder = tried.parent
    said = (folder / "said").read_text()
    codes = [int(code) for code in (folder / "codes").read_text().split()]
    wanted = [*SAID.values(), *BENT.values()]
    assert codes == [code for code, _ in wanted], said
    told = said.split("== ")[1:]
    for (code, words), line, answer in zip(wanted, LINES, told, strict=True):
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
