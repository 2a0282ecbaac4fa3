"""The base of every model that crosses a boundary."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable; unknown keys are ignored so that an older reader understands a newer writer."""

    model_config = ConfigDict(frozen=True, extra="ignore")
