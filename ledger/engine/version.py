"""The schema of this program, for who must know it before SQLAlchemy is loaded."""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 5
