"""`gt refinery integration`: what is refused before any host is asked. The rest is in tests/e2e/test_main_job.py."""

from __future__ import annotations

import pytest

from models.ledger.records import Rig
from tests.cli.conftest import Here


@pytest.mark.parametrize("command", ["create", "land"])
@pytest.mark.parametrize(
    ("branch", "rig_name", "code", "words"),
    [
        ("main", "shop", 2, "the rig's own branch"),
        ("polecat/sh-1", "shop", 2, "the branches of jobs"),
        ("a..b", "shop", 2, "branch name"),
        ("next", "nope", 3, "no rig"),
    ],
)
def test_what_cannot_be_an_integration_branch_is_refused(
    here: Here, rig: Rig, command: str, branch: str, rig_name: str, code: int, words: str
) -> None:
    outcome = here.run("gt", "refinery", "integration", command, branch, "--rig", rig_name, expect=code)
    assert words in outcome.err
