"""Which of the files that git ignores are worth keeping when their worktree goes.

Most are made again by the tool that made them. What is left may be an agent's notes or a local database:
the small ones are kept on the host, and of the others it is said that they are not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Final

_CACHE_MARKS: Final = frozenset({"CACHEDIR.TAG", "pyvenv.cfg"})
"""Files by which a folder says that it can be made again: bford.info/cachedir, and Python's environments."""
_CACHE_FOLDERS: Final = frozenset({
    "node_modules", "bower_components", "__pycache__", "__pypackages__", "site-packages", "venv", ".venv", ".tox",
    ".nox", ".eggs", ".cache", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints",
    ".gradle", ".next", ".nuxt", ".svelte-kit", ".parcel-cache", ".turbo", ".vite", ".yarn", ".pnpm-store",
    ".terraform", ".dart_tool", ".bundle", ".stack-work", "_build", "build", "dist", "target", "out", "obj",
    "htmlcov", "coverage", "DerivedData",
})  # fmt: skip
_CACHE_FILES: Final = (
    "*.pyc", "*.pyo", "*.o", "*.obj", "*.a", "*.so", "*.dylib", "*.class", "*.tsbuildinfo", "*.egg-info",
    ".coverage", ".coverage.*", ".DS_Store", "Thumbs.db", ".eslintcache",
)  # fmt: skip


def is_cache_folder(name: str, holds: Collection[str]) -> bool:
    """Whether a folder's own name, or what is in it, says that its content is made again."""
    return name in _CACHE_FOLDERS or fnmatchcase(name, "*.egg-info") or not _CACHE_MARKS.isdisjoint(holds)


def is_cache_file(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in _CACHE_FILES)


def worth_keeping(sizes: Mapping[str, int], max_bytes: int) -> frozenset[str]:
    """As many of these files (size in bytes by path) as `max_bytes` holds together, the smallest first."""
    kept, total = set(), 0
    for path, size in sorted(sizes.items(), key=lambda one: (one[1], one[0])):
        total += size
        if total > max_bytes:
            break
        kept.add(path)
    return frozenset(kept)
