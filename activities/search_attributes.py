"""The search attributes that every workflow of a town is started with."""

from __future__ import annotations

from typing import Final

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

RIG: Final = SearchAttributeKey.for_keyword("GtRig")
BEAD: Final = SearchAttributeKey.for_keyword("GtBead")
POLECAT: Final = SearchAttributeKey.for_keyword("GtPolecat")
ROLE: Final = SearchAttributeKey.for_keyword("GtRole")
STATE: Final = SearchAttributeKey.for_keyword("GtState")

KEYS: Final = {"role": ROLE, "state": STATE, "rig": RIG, "bead": BEAD, "polecat": POLECAT}

SEARCH_ATTRIBUTES: Final = (RIG, BEAD, POLECAT, ROLE, STATE)
"""What a namespace must have registered before any of our workflows starts."""


def attributes(
    *,
    role: str,
    state: str,
    rig: str | None = None,
    bead: str | None = None,
    polecat: str | None = None,
) -> TypedSearchAttributes:
    """Search attributes to start a workflow with; what is None stays unset."""
    values = ((ROLE, role), (STATE, state), (RIG, rig), (BEAD, bead), (POLECAT, polecat))
    return TypedSearchAttributes([SearchAttributePair(key, value) for key, value in values if value is not None])
