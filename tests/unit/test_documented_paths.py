"""What pages say about the code can be found in it: every path exists, and every name beside one is defined there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = "models|policies|workflows|activities|ledger|services|cli|agents|tests|benchmarks|docs"
_PATH = re.compile(rf"(?<![\w/.-])(?:{_FOLDERS})/[\w/.-]+\.(?:py|md)\b")
_NAMED = re.compile(rf"((?:{_FOLDERS})/[\w/]+\.py)(?:,|'s)? `(\w+)`")
_ELSEWHERE = {"docs/design.md", "docs/technical-description.md"}
"""named as what there should not be"""
_DOMAINS = ("job", "dispatch", "refinery", "supervision", "mayor", "upkeep")
PAGES = sorted(
    page
    for page in subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not page.startswith("tests/activities/git/public/")
)


@pytest.mark.parametrize("page", PAGES)
def test_every_path_on_a_page_exists(page: str) -> None:
    words = (ROOT / page).read_text(encoding="utf-8")
    named = {path for path in _PATH.findall(words) if path not in _ELSEWHERE}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_name_beside_a_path_is_defined_there(page: str) -> None:
    words = (ROOT / page).read_text(encoding="utf-8")
    assert [f"{path} {name}" for path, name in _NAMED.findall(words) if not _defines(ROOT / path, name)] == []


def _defines(file: Path, name: str) -> bool:
    return re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", file.read_text(encoding="utf-8"), re.M) is not None


def test_the_walks_lead_through_the_code() -> None:
    """The pages of the domains are what the two checks above are for."""
    walks = {f"workflows/{domain}/README.md" for domain in _DOMAINS}
    assert walks <= set(PAGES)
    assert all(len(_PATH.findall((ROOT / page).read_text(encoding="utf-8"))) >= 5 for page in walks)
