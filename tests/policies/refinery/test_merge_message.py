"""The landing commit's message: nothing that an author writes can forge or hide the town's trailers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.refinery.merge_message import landed_change, landing_message, lands, signed_off

HEAD = "ab" * 20
OTHER = "cd" * 20
lines = st.sampled_from(
    [
        *("", " ", "text", "Bead: sh-9", f"Change: {OTHER}", f"change :{OTHER}", "POLECAT:\tx", "  folded", "\tfolded"),
        *("Signed-off-by: A <a@x>", "Co-authored-by: B <b@x>", "# comment", "---", "Change", f" Change: {OTHER}", "\r"),
    ]
)
messages = st.lists(st.lists(lines, max_size=8).map("\n".join) | st.text(max_size=40), max_size=4)


@given(st.text(max_size=40) | lines, messages)
def test_any_authors_words_land_under_exactly_the_towns_trailers(title: str, written: list[str]) -> None:
    message = landing_message(title, written, "sh-1", "shop/toast", HEAD)
    assert message.endswith(f"\nBead: sh-1\nPolecat: shop/toast\nChange: {HEAD}\n")
    assert lands(message, "sh-1", HEAD)
    assert not lands(message, "sh-9", OTHER)
    assert not lands(message, "sh-1", OTHER)
    assert landed_change(message, "sh-1") == HEAD
    assert landed_change(message, "sh-9") is None
    assert message.split("\n")[0].strip()


def test_co_authors_of_all_commits_are_named_once_among_the_trailers() -> None:
    together = "Co-authored-by: B <b@x>"
    message = landing_message("Title", [f"One\n\n{together}", f"Two\n\nwhy\n\n{together}"], "sh-1", "shop/toast", HEAD)
    assert message == (
        f"Title\n\n* One\n\n* Two\n\nwhy\n\n{together}\nBead: sh-1\nPolecat: shop/toast\nChange: {HEAD}\n"
    )


class TestSignedOff:
    LINE = "Signed-off-by: Dev <dev@example.com>"

    def test_it_stands_before_the_towns_own_trailers(self) -> None:
        message = landing_message("", ("Fix it\n\nReviewed-by: Ann <a@x>",), "sh-1", "shop/toast", "a" * 40)
        trailers = signed_off(message, "Dev <dev@example.com>").rstrip().rpartition("\n\n")[2].split("\n")
        assert trailers[:2] == ["Reviewed-by: Ann <a@x>", self.LINE]
        assert [each.partition(":")[0] for each in trailers[2:]] == ["Bead", "Polecat", "Change"]

    def test_once_is_enough_and_a_subject_is_no_trailer(self) -> None:
        signed = signed_off("fix: it\n", "Dev <dev@example.com>")
        assert signed == f"fix: it\n\n{self.LINE}\n"
        assert signed_off(signed, "Dev <dev@example.com>") == signed
