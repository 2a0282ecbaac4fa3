"""What `make mutate` takes out still stands, and so do the tests that are to notice."""

from __future__ import annotations

import pytest

from tests.attack.mutate import MUTATIONS, ROOT, Mutation, planted


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: str(mutation.guard))
def test_a_guard_and_the_test_named_for_it_are_there(mutation: Mutation) -> None:
    assert planted(mutation, ROOT) != (ROOT / mutation.file).read_text()
    file, *_, name = mutation.test.split("::")
    assert f"def {name}(" in (ROOT / file).read_text()
