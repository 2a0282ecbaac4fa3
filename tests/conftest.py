"""What every test runs under, and what the whole run reports at its end."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from services import init_town, ports
from tests.dealing import dealt
from tests.temporal_server import FOR_MANY_TESTS, dev_server

LONG = (
    "tests/agents/",
    "tests/e2e/",
    "tests/chaos/",
    "tests/services/",
    "tests/workflows/refinery/test_merge_model.py",
)
"""Whole towns, and what runs for minutes."""

# The same examples each time, and no limit on one example's time: how busy the machine is proves nothing.
settings.register_profile("gastown", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gastown")


@pytest.fixture(scope="session")
def temporal_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real server for many tests of this process: each takes a namespace of its own."""
    with dev_server(tmp_path_factory.mktemp("temporal"), FOR_MANY_TESTS) as port:
        yield port


@pytest.fixture(scope="session", autouse=True)
def embedded_engine_is_tried_once() -> Iterator[None]:
    """Whether this Python can load it is asked by a process, for each town that is made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(init_town, "_try_embedded", functools.cache(init_town._try_embedded))
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Give each test process ports of its own for its towns: one picks them at `gt init` and takes them at `gt up`."""
    told = getattr(config, "workerinput", None)
    if told is not None:
        share = (ports._LAST + 1 - ports._FIRST) // int(told["workercount"])
        ports._FIRST += share * int(told["workerid"].removeprefix("gw"))
        ports._LAST = ports._FIRST + share - 1


def pytest_xdist_auto_num_workers() -> int:
    """Three for two cores: a real town, server or clock is mostly waited for, but not on a machine without any rest."""
    return max(2, 3 * len(os.sched_getaffinity(0)) // 2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the long tests out to the test processes; those that share a town stay together."""
    hands = int(getattr(config, "workerinput", {}).get("workercount", 1))
    long = [(shared(item), item) for item in items if item.nodeid.startswith(LONG)]
    items[:] = dealt(items, long, hands)


def shared(item: pytest.Item) -> tuple[str, ...]:
    """The set-up that a test shares: its folder's, or its module's by parameter; of one without any, itself."""
    assert isinstance(item, pytest.Function)
    made = [known[-1] for known in item._fixtureinfo.name2fixturedefs.values()]
    if of_folder := [one.argname for one in made if one.scope == "package"]:
        return tuple(of_folder)
    of_module = [one.argname for one in made if one.scope == "module"]
    if not of_module:
        return (item.nodeid,)
    given = item.callspec.params if hasattr(item, "callspec") else {}
    return (item.nodeid.partition("::")[0], *(str(given[name]) for name in of_module if name in given))


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell at once what fails and why: a run that is ended from outside tells nothing more."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = f"\n{crash}" if crash is not None else ""
        print(f"\n{report.nodeid} failed ({report.when}) after {report.duration:.0f} s{why}", flush=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many crash points were killed at, how many of those jobs landed once, and how the chaos ended."""
    reports = terminalreporter.getreports("passed")
    properties = [(name, value) for report in reports for name, value in report.user_properties]
    counts = [value for name, value in properties if name == "crash_points"]
    if counts:
        points, passed = (sum(column) for column in zip(*counts, strict=True))
        terminalreporter.write_line(f"crash points: {points} points, {passed} passed")
    for name, line in properties:
        if name == "chaos":
            terminalreporter.write_line(str(line))
