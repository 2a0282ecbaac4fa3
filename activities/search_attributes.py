"""The search attributes that every workflow of a town is started with."""

from __future__ import annotations

from typing import Final

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from models.names import SEARCH_ATTRIBUTES

KEYS: Final = {what: SearchAttributeKey.for_keyword(name) for what, name in SEARCH_ATTRIBUTES.items()}


def attributes(
    *,
    role: str,
    state: str,
    rig: str | None = None,
    bead: str | None = None,
    polecat: str | None = None,
) -> TypedSearchAttributes:
    """Search attributes to start a workflow with; what is None stays unset."""
    values = {"role": role, "state": state, "rig": rig, "bead": bead, "polecat": polecat}
    return TypedSearchAttributes(
        [SearchAttributePair(KEYS[what], value) for what, value in values.items() if value is not None]
    )
