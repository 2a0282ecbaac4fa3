"""Names: what is let through to git, tmux, SQL and paths, and what is not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import names
from models.errors import ErrorCode, ExitCode, GtError

HOSTILE = [
    "", " ", "a b", "../x", "..", ".", "-x", "--help", "$(id)", "`id`", "a;b", "a|b", "a&b", "a\nb", "a\x00b", "a\tb",
    "a'b", 'a"b', "a/b", "a\\b", "~", "~root", "*", "a*", "a?b", "[a]", "{a}", "a:b", "a=b", "a%b", "\x1b[31mred",
    "\u202eabc", "é", "日本", "a" * 300, "a--b", "a-", "_a", "a__b", "refs/heads/../x", "@{u}", "HEAD~1", "a.lock",
]  # fmt: skip


@pytest.mark.parametrize("valid", [names.valid_rig, names.valid_polecat, names.valid_town, names.valid_gate])
def test_a_hostile_name_is_refused_with_a_clear_error(valid: Callable[[str], str]) -> None:
    for hostile in HOSTILE:
        error = refusal(valid, hostile)
        assert (error.code, error.exit_code) == (ErrorCode.INVALID_NAME, ExitCode.USAGE), hostile
        assert not {"\n", "\x1b"} & set(error.message), hostile
        assert len(error.message) < 250, hostile


def refusal(valid: Callable[[str], str], name: str) -> GtError:
    try:
        valid(name)
    except GtError as error:
        return error
    pytest.fail(f"{name!r} was taken")


def test_a_plain_name_is_taken() -> None:
    for good in ("shop", "Shop", "my_rig", "my-rig", "r2d2", "2fast", "a" * 40):
        assert names.valid_rig(good) == good


def test_only_prefix_and_base36_make_a_bead_id() -> None:
    for hostile in (*HOSTILE, "sh", "sh-", "-1a2", "SH-1a2", "sh-1A2", "sh-1a2-3", "sh_1", "sh-" + "1" * 17):
        refusal(names.valid_bead, hostile)


def test_a_bead_id_tells_its_prefix() -> None:
    assert names.bead_prefix("sh-1a2") == "sh"


def test_a_branch_may_have_letters_of_any_language_but_none_that_cannot_be_shown() -> None:
    for good in ("freigabe/größer", "функция", "機能/検索", "naïve", "a" * 200):
        assert names.valid_branch(good) == good
    for hidden in ("a\u202eb", "a\u200bb", "a\u00a0b", "a\u0085b", "\ud800", "é" * 101):
        refusal(names.valid_branch, hidden)


def test_a_branch_that_git_would_not_take_is_refused() -> None:
    shell = {"$(id)", "`id`", "a|b", "a&b", "{a}", "a=b", "a%b", "a'b", 'a"b', "a;b"}
    taken = {"日本", "é", "a--b", "a-", "_a", "a__b", "a/b", *shell}
    for hostile in set(HOSTILE) - taken:
        refusal(names.valid_branch, hostile)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30))
def test_what_passes_as_a_branch_git_takes_too(text: str) -> None:
    try:
        names.valid_branch(text)
    except GtError:
        return
    taken = subprocess.run(["git", "check-ref-format", f"refs/heads/{text}"], check=False)
    assert taken.returncode == 0


@given(st.sampled_from(["shop", "my-rig", "a_b"]), st.sampled_from(["toast", "toast-2", "nux"]))
def test_a_session_name_splits_back_into_rig_and_polecat(rig: str, polecat: str) -> None:
    assert names.session_name(rig, polecat).split("--") == [rig, polecat]


def test_ids_queues_and_refs_are_those_of_the_architecture() -> None:
    assert names.dispatch_id("shop") == "dispatch/shop"
    assert names.polecat_id("shop", "sh-1a2") == "polecat/shop/sh-1a2"
    assert names.witness_id("shop") == "witness/shop"
    assert names.refinery_id("shop") == "refinery/shop"
    assert names.merge_id("shop", 7) == "merge/shop/7"
    assert names.host_queue("box-1.lan") == "host.box-1.lan"
    assert names.gates_queue("box") == "gates.box"
    assert names.watch_queue("box") == "watch.box"
    assert names.parked_ref("sh-1a2", 3) == "refs/gastown/parked/sh-1a2/3"
    assert names.polecat_address("shop", "toast") == "shop/toast"
    assert names.merge_request_id("sh-1a2", 2) == "sh-1a2.2"
