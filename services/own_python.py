"""How the town starts a Python of its own."""

from __future__ import annotations

import sys
from typing import Final

OWN_PYTHON: Final = (sys.executable, "-E", "-P")
"""A person's PYTHONPATH, PYTHONWARNINGS and the like are for their programs, and a folder of the town must not be
taken for one of our packages."""
