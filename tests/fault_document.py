"""What docs/fault-recovery.zh.md promises, and which test bears which promise.

A promise is called by its part's number and the document's own words: `3: 无响应` is that row of part three's
table. Search the tests for the words and you have the test. What counts as a promise:

- a row of a table, by its first cell;
- a path through a mermaid diagram, from its first choice on: `3: 工作错误 → 发送 MERGE_FAILED → …`;
- a numbered step in a block of code, and the title of a block of such steps;
- a leaf below `Level …` or `策略…`;
- the word on an arrow of a drawing in characters.

A test bears one by `@pytest.mark.document("3: 无响应")`. A command is borne by the test that runs it as it is written:
`here.run(*documented("gt deacon restart"))`.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "fault-recovery.zh.md"

NOT_BUILT = {
    "promise": {"2: 数据损坏", "8: 恢复 Dolt 数据"},
    "command": {
        *("gt dolt status", "gt dolt restart", "gt dolt reset --force"),
        *("gt doctor --disk", "gt cleanup --older-than=30d", "gt cleanup --weekly"),
        *("gt tmux list", "gt tmux cleanup --dead", "gt tmux restart"),
        *("dolt backup create", "dolt backup restore <backup-name>", "git push origin --all"),
        *("gt config backup", "gt backup --monthly"),
        *("gt town promote --primary-down", "gt rig rebalance --from=<failed-town>"),
    },
}
"""Parts seven and eight: upkeep, backup, restore and failover. Who builds one takes it off here, or the check fails."""

_PART = re.compile(r"^## 第(.)部分：")
_NUMBERS = "一二三四五六七八九"
_FENCE = re.compile(r"^```(\w*)$")
_RULE = re.compile(r"^\|[\s:|-]+\|$")
_COMMAND = re.compile(r"^(?:gt|bd|dolt|git) ")
_STEP = re.compile(r"^\s*(?:# ?)?\d+\. (.+)$")
_BRANCH = re.compile(r"^(?:Level \d|策略.)[:：]")
_LEAF = re.compile(r"^[├└]── (.+)$")
_ARROW = re.compile(r"─+([^─>\s]+)─+>|│ +(\S.*)$")
_EDGE = re.compile(
    r"^\s*(?P<origin>\w+)(?P<origin_text>[\[{].*?[\]}])?\s*-->\s*(?:\|(?P<label>[^|]*)\|\s*)?"
    r"(?P<end>\w+)(?P<end_text>[\[{].*?[\]}])?\s*$"
)


def documented(line: str, words: Mapping[str, str] | None = None) -> list[str]:
    """A command of the document as arguments.

    Args:
        words: what the test has in the place of words that only stand for something, such as `gastown`.
    """
    return [(words or {}).get(word, word) for word in shlex.split(line)]


# --- the document ---------------------------------------------------------------------------------


def commands_in(text: str) -> list[str]:
    """Every command that the document tells a person to type, as it is written."""
    lines = [line for _, language, block in _blocks(text) if language == "bash" for line in block]
    return list(dict.fromkeys(line.strip() for line in lines if _COMMAND.match(line)))


def promises_in(text: str) -> list[str]:
    """Every promise of the document, in its order."""
    found = []
    for part, language, lines in _blocks(text):
        found += [f"{part}: {words}" for words in _promises_of(language, lines)]
    return list(dict.fromkeys(found))


def _promises_of(language: str | None, lines: list[str]) -> Iterator[str]:
    if language is None:
        yield from _rows(lines)
    elif language == "mermaid":
        yield from _paths(lines)
    else:
        yield from _steps(language, lines)
        if not language:
            yield from _leaves(lines)
            yield from (one or other for line in lines for one, other in _ARROW.findall(line))


def _blocks(text: str) -> Iterator[tuple[int, str | None, list[str]]]:
    """Runs of lines with their part's number and the language of their block of code, None outside of one."""
    part, language, lines = 0, None, list[str]()
    for line in text.splitlines():
        fence, heading = _FENCE.match(line), _PART.match(line)
        if not fence and not (heading and language is None):
            lines.append(line)
            continue
        yield part, language, lines
        lines = []
        if fence:
            language = fence[1] if language is None else None
        elif heading:
            part = _NUMBERS.index(heading[1]) + 1
    yield part, language, lines


def _rows(lines: list[str]) -> Iterator[str]:
    below_header = False
    for line in lines:
        if below_header and line.startswith("|"):
            yield line.split("|")[1].strip().strip("*")
        else:
            below_header = bool(_RULE.match(line))


def _paths(lines: list[str]) -> Iterator[str]:
    names: dict[str, str] = {}
    onward: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for edge in filter(None, map(_EDGE.match, lines)):
        for node in ("origin", "end"):
            names[edge[node]] = names.get(edge[node]) or (edge[f"{node}_text"] or "").strip("[]{}")
        onward[edge["origin"]].append((edge["label"] or "", edge["end"]))
    ends = {end for edges in onward.values() for _, end in edges}

    def walk(node: str, path: tuple[str, ...]) -> Iterator[str]:
        if node not in onward:
            yield " → ".join(path)
        for label, end in onward.get(node, ()):
            yield from walk(end, (*path, label, names[end]) if label else (*path, names[end]) if path else ())

    for start in [node for node in onward if node not in ends]:
        yield from walk(start, ())


def _steps(language: str, lines: list[str]) -> Iterator[str]:
    steps = [step[1].strip() for line in lines if (step := _STEP.match(line))]
    if steps and not language:
        yield lines[0].rstrip(":：")
    yield from steps


def _leaves(lines: list[str]) -> Iterator[str]:
    below_branch = False
    for line in lines:
        leaf = _LEAF.match(line)
        if leaf and below_branch:
            yield leaf[1]
        elif not leaf:
            below_branch = bool(_BRANCH.match(line))


# --- the tests ------------------------------------------------------------------------------------


def borne_under(folder: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Marks and commands of all tests under a folder, each with the tests that bear it; nothing is imported."""
    marks: dict[str, list[str]] = defaultdict(list)
    commands: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "document" not in text:
            continue
        for test in _tests(ast.parse(text).body):
            place = f"{path.relative_to(folder)}::{test.name}"
            for name, words in _calls(test):
                (marks if name == "document" else commands)[words].append(place)
    return marks, commands


def _tests(body: Iterable[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _tests(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def _calls(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, str]]:
    """`pytest.mark.document(…)` and `documented(…)` in a test and its decorators, with the words in them."""
    for node in ast.walk(test):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name == "pytest.mark.document":
            yield from (("document", ast.literal_eval(word)) for word in node.args)
        elif name == "documented":
            yield "documented", ast.literal_eval(node.args[0])


# --- both -----------------------------------------------------------------------------------------


def disagreements(kind: str, promised: Iterable[str], borne: Mapping[str, list[str]], not_built: set[str]) -> list[str]:
    """Where document and tests do not fit each other.

    Args:
        kind: what it is about, for the message.
        not_built: what the product does not have yet, so that no test can bear it.
    """
    promised = list(promised)
    return [
        *(f"no test bears the {kind} {words!r}" for words in promised if words not in borne and words not in not_built),
        *(f"{place} bears {words!r}, no {kind} of the document"
          for words, places in borne.items() if words not in promised for place in places),
        *(f"{words!r} is borne by {borne[words][0]}: it is built" for words in sorted(not_built) if words in borne),
        *(f"{words!r} is not built, and no {kind} of the document" for words in sorted(not_built - set(promised))),
    ]  # fmt: skip
