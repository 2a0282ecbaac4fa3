"""The programs `gt` and `bd`, in the one module of ours that has a name of its own.

The others are called models, services or cli, as packages of other people's projects are, and PYTHONPATH puts
those before everything that is installed.
"""

from __future__ import annotations

import os
import sys


def gt() -> int:
    """Run `gt` with the process's arguments; returns the exit code."""
    _ignore_python_path()
    from cli.gt import main

    return main()


def bd() -> int:
    """Run `bd` with the process's arguments; returns the exit code."""
    _ignore_python_path()
    from cli.bd import main

    return main()


def _ignore_python_path() -> None:
    """What `python -E` does, which the first line of an installed program cannot ask for."""
    if given := os.environ.get("PYTHONPATH"):
        others = {_absolute(place) for place in given.split(os.pathsep)}
        others.discard(os.path.dirname(os.path.abspath(__file__)))
        sys.path[:] = [place for place in sys.path if place not in others]


def _absolute(place: str) -> str:
    """As Python's own site module has it on sys.path, in a directory that was deleted too."""
    try:
        return os.path.abspath(place)
    except OSError:
        return place
