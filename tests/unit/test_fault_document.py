"""Every row, path, step and command of docs/fault-recovery.zh.md has a test that bears it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fault_document
from tests.fault_document import (
    DOCUMENT,
    NOT_BUILT,
    ROOT,
    borne_under,
    commands_in,
    disagreements,
    promises_in,
)

SAMPLE = """\
# Faults
```bash
gt before any part
```
## 第三部分：Polecat
| kind | recovery |
|------|:--------:|
| **silent** | restart |
| stuck | a person |

Prose | with a bar, and a list:
1. that is no step
```mermaid
graph TD
    A[found] --> B{which}
    B -->|silent| C[stale]
    B -->|stuck| D[HELP]
    C --> E{grace}
    E -->|back| F[well]
    E -->|gone| G[restart]
```
```bash
# 1. look
check() {
        # 2. ask
    gt inside a function
}
gt first --all
gt first --all
dolt backup create
```
## 第六部分：Deacon
```
Boot looks:

1. alive?
```
```
Witness ──PING──> Deacon
                   │
                   │ silent
                   ▼
```
```
Others:
├── promise nothing
Level 1: passing
├── jitter
└── retried
```
"""
PROMISES = [
    *("3: silent", "3: stuck", "3: silent → stale → grace → back → well"),
    *("3: silent → stale → grace → gone → restart", "3: stuck → HELP", "3: look", "3: ask"),
    *("6: Boot looks", "6: alive?", "6: PING", "6: silent", "6: jitter", "6: retried"),
]
COMMANDS = ["gt before any part", "gt first --all", "dolt backup create"]


def test_every_promise_and_every_command_of_the_document_has_a_test() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    marks, typed = borne_under(ROOT / "tests")
    assert disagreements("promise", promises_in(text), marks, NOT_BUILT["promise"]) == []
    assert disagreements("command", commands_in(text), typed, NOT_BUILT["command"]) == []


def test_promises_and_commands_are_read_out_of_rows_paths_steps_leaves_and_arrows() -> None:
    assert promises_in(SAMPLE) == PROMISES
    assert commands_in(SAMPLE) == COMMANDS


def test_the_whole_document_is_read() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert {promise[0] for promise in promises_in(text)} == set("1234568"), "parts 7 and 9 hold commands alone"
    assert len([promise for promise in promises_in(text) if "→" in promise]) == 4
    assert len(commands_in(text)) == sum(
        line.startswith(("gt ", "bd ", "dolt ", "git ")) for line in set(text.split("\n"))
    )


@pytest.mark.parametrize("gone", PROMISES)
def test_a_promise_without_a_test_is_found(gone: str) -> None:
    borne = {promise: ["test_a.py::test_a"] for promise in PROMISES if promise != gone}
    assert disagreements("promise", promises_in(SAMPLE), borne, set()) == [f"no test bears the promise {gone!r}"]
    assert disagreements("promise", promises_in(SAMPLE), borne, {gone}) == []


def test_what_the_document_does_not_hold_is_found() -> None:
    borne = {promise: ["test_a.py::test_a"] for promise in [*PROMISES, "4: silent"]}
    assert disagreements("promise", PROMISES, borne, {"3: stuck", "9: later"}) == [
        "test_a.py::test_a bears '4: silent', no promise of the document",
        "'3: stuck' is borne by test_a.py::test_a: it is built",
        "'9: later' is not built, and no promise of the document",
    ]


def test_marks_and_commands_are_read_out_of_tests_alone(tmp_path: Path) -> None:
    (tmp_path / "test_b.py").write_text(
        "import nowhere\n"
        "class TestB:\n"
        "    @pytest.mark.document('3: a', '3: b')\n"
        "    @pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.document('3: c'))])\n"
        "    async def test_b(self): here.run(*documented('gt first <item>', {'<item>': item}))\n"
        "@pytest.mark.document('3: none')\n"
        "def helper(): documented('gt none')\n"
    )
    place = ["test_b.py::test_b"]
    assert borne_under(tmp_path) == (dict.fromkeys(("3: a", "3: b", "3: c"), place), {"gt first <item>": place})


def test_a_command_is_typed_as_it_is_written_but_for_what_stands_for_something() -> None:
    assert fault_document.documented("gt first <item> --rig=gastown", {"<item>": "sh-1.1", "gastown": "shop"}) == [
        "gt", "first", "sh-1.1", "--rig=gastown",
    ]  # fmt: skip
    assert fault_document.documented("gt first toast --rig gastown", {"gastown": "shop"})[-1] == "shop"
