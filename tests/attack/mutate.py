"""`make mutate`: each guard is taken out of a copy of the project, and the test that is named for it has to fail.

The last line is the figure; the exit code is 1 where a guard is gone and its test does not notice. First all those
tests run as the project is: one that fails then proves nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
_COPIES: Final = 2
_ACT: Final = "tests/activities"


class Mutation(NamedTuple):
    """A guard, how it is taken out, and the test that notices."""

    guard: str
    file: str
    before: str
    """stands in the file once"""
    after: str
    test: str
    """in its own process: what a town starts imports the installed package, which is no copy"""


MUTATIONS: Final = (
    Mutation(
        "token of an intent",
        "agents/tokens.py",
        'return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode("utf-8", "replace"))',
        "return True",
        f"{_ACT}/sessions/test_forged_intents.py::test_nobody_hands_in_or_asks_in_the_name_of_another",
    ),
    Mutation(
        "token of a request from a sandbox",
        "services/worker/agent_door.py",
        "if record is not None and carries(told, record.get(session_folder.TOKEN_KEY)):",
        "if record is not None:",
        "tests/services/test_agent_door.py::test_what_is_no_agents_to_ask_is_refused_with_the_reason",
    ),
    Mutation(
        "commands that a sandbox may hand in",
        "services/worker/agent_door.py",
        "if command not in OPEN:",
        "if False:",
        "tests/services/test_agent_door.py::test_what_is_no_agents_to_ask_is_refused_with_the_reason",
    ),
    Mutation(
        "cap on requests",
        "services/worker/agent_door.py",
        "if len(times) == REQUESTS and",
        "if False and",
        "tests/services/test_agent_door.py::test_of_a_thousand_requests_a_minute_s_worth_is_taken",
    ),
    Mutation(
        "verdict, asked of the remote",
        "activities/git/merging/confirming.py",
        "    if message is None:\n        return f",
        '    if message is None:\n        return "" and f',
        f"{_ACT}/git/test_confirming.py::test_a_made_up_commit_is_doubted_and_what_the_remote_has_is_named",
    ),
    Mutation(
        "pinned configuration of the town's git",
        "activities/git/command.py",
        '_ENVIRONMENT["GIT_CONFIG_GLOBAL"] = str(path)',
        '_ENVIRONMENT.pop("GIT_CONFIG_GLOBAL", None)',
        "tests/services/test_git_config.py::test_what_is_set_for_the_home_afterwards_leads_no_command_elsewhere",
    ),
    Mutation(
        "the town's own look at a work tree",
        "activities/git/worktree/polecat_repo.py",
        "view = GitRepo(self._view_dir, self.path, bounds=BOUNDS)",
        "view = GitRepo(git_dir, self.path, bounds=BOUNDS)",
        f"{_ACT}/git/test_polecat_repositories.py::TestTheTownsGit::test_no_command_of_an_agents_repository_runs",
    ),
    Mutation(
        "objects that are linked from elsewhere",
        "activities/git/worktree/polecat_repo.py",
        "shlex.join([*reader, 'git', 'upload-pack'])",
        "shlex.join(['git', 'upload-pack'])",
        f"{_ACT}/git/test_polecat_repositories.py::TestTheTownsGit::"
        "test_objects_of_a_repository_elsewhere_do_not_come_along",
    ),
    Mutation(
        "size of what a change brings",
        "activities/git/limits.py",
        "if int(size) > limits.blob_bytes:",
        "if False:",
        f"{_ACT}/git/test_bounds.py::test_what_a_change_brings_has_its_limits",
    ),
    Mutation(
        "keys of the login",
        "services/supervisor/processes.py",
        "ctypes.CDLL(None).syscall(number, _JOIN_SESSION_KEYRING, None)",
        "pass",
        "tests/services/test_processes.py::test_keys_of_the_login_are_not_handed_down_to_what_the_worker_starts",
    ),
    Mutation(
        "redaction of the town's own secrets",
        "services/redaction.py",
        "return redact(text, self._known())",
        "return text",
        "tests/services/test_redaction.py::test_the_values_of_its_files_are_hidden_and_read_anew_when_they_change",
    ),
    Mutation(
        "redaction of known shapes",
        "policies/security/redaction.py",
        "_TOKENS: Final = frozenset(rule for rule in RULES if",
        "_TOKENS: Final = frozenset(rule for rule in () if",
        "tests/policies/security/test_redaction.py::test_each_kind_is_hidden_wherever_it_stands",
    ),
    Mutation(
        "Host of who asks the Web UI",
        "services/temporal/door.py",
        "return foreign_host(request, port) or Way(way, request.alone())",
        "return Way(way, request.alone())",
        "tests/services/test_temporal_door.py::test_on_loopback_the_host_decides",
    ),
    Mutation(
        "links in the session's folder",
        "agents/session_folder.py",
        "odd = not stat.S_ISDIR(os.lstat(path).st_mode)",
        "odd = False",
        f"{_ACT}/sessions/test_bent_folders.py::test_a_linked_inbox_gets_its_letter_and_nothing_is_written_outside",
    ),
    Mutation(
        "links above what is written",
        "services/atomic_files.py",
        "there = os.open(name, flags | os.O_NOFOLLOW, dir_fd=here)",
        "there = os.open(name, flags, dir_fd=here)",
        f"{_ACT}/sessions/test_bent_folders.py::test_a_linked_session_folder_gets_nothing",
    ),
    Mutation(
        "cap on calls for help",
        "activities/sessions/watched.py",
        "heard = new[: self.helps_left]",
        "heard = new",
        f"{_ACT}/sessions/test_many_intents.py::"
        "test_of_thousands_of_calls_for_help_a_few_are_heard_and_the_others_later",
    ),
    Mutation(
        "commands of an agent",
        "cli/session/agent_rights.py",
        "    message = f\"`{command}` is not an agent's to run: agent.may",
        "    return\n    message = f\"`{command}` is not an agent's to run: agent.may",
        "tests/cli/test_agent_rights.py::test_every_other_command_is_refused_before_anything_is_loaded_or_contacted",
    ),
    Mutation(
        "the town out of a sandbox's sight",
        "services/sandbox.py",
        "sealed=(str(town),),",
        "sealed=(),",
        f"{_ACT}/sessions/test_agent_sandbox.py::test_it_works_and_hands_in_and_sees_its_own_work_alone",
    ),
    Mutation(
        "no network without a setting",
        "policies/security/sandbox.py",
        "    if not plan.network:",
        "    if False:",
        f"{_ACT}/sessions/test_agent_sandbox.py::test_without_a_network_there_is_loopback_alone",
    ),
    Mutation(
        "nothing starts without the sandbox that is demanded",
        "services/sandbox.py",
        'refuses = settings.mode == "bwrap"',
        "refuses = False",
        "tests/services/test_sandbox_standing.py::"
        "test_a_container_without_namespaces_has_none_and_says_why_and_what_mends_it",
    ),
    Mutation(
        "hosts that an agent's list names",
        "services/agent_proxy.py",
        "if not named(self._entries, host, port):",
        "if False:",
        "tests/services/test_agent_proxy.py::"
        "test_what_is_asked_for_is_judged_by_its_own_address_and_not_by_its_host_header",
    ),
    Mutation(
        "addresses that a listed name leads to",
        "services/agent_proxy.py",
        "allowed = [one for one, reason in reasons.items() if not reason]",
        "allowed = list(reasons)",
        "tests/services/test_agent_proxy.py::test_it_connects_to_the_very_addresses_that_may_be_reached",
    ),
    Mutation(
        "no agent with less than the host's network without a sandbox",
        "services/sandbox.py",
        "if now.kind == NONE and network != network_list.FULL and not now.refuses:",
        "if False:",
        f"{_ACT}/sessions/test_agent_network.py::"
        "test_without_a_sandbox_nothing_starts_that_is_to_have_less_than_the_hosts_network",
    ),
)


def planted(mutation: Mutation, root: Path) -> str:
    """The file's text with the guard taken out.

    Raises:
        ValueError: the guard does not stand there once.
    """
    text = (root / mutation.file).read_text()
    if text.count(mutation.before) != 1:
        raise ValueError(
            f"{mutation.guard}: {mutation.file} has {mutation.before!r} {text.count(mutation.before)} times"
        )
    found = text.replace(mutation.before, mutation.after)
    if len(found) == len(text):
        raise ValueError(f"{mutation.guard}: compiled modules of that size and second would be taken for the original")
    return found


def copy_project(folder: Path) -> Path:
    """The files that git knows or would take, as they stand now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    copy = folder / "project"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


def run_tests(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    return subprocess.run(argv, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def is_caught(mutation: Mutation, copy: Path) -> bool:
    """Whether the named test fails in the copy while the guard is out of it."""
    path = copy / mutation.file
    original = path.read_text()
    path.write_text(planted(mutation, copy))
    try:
        done = run_tests(copy, mutation.test)
    finally:
        path.write_text(original)
    return done.returncode == 1 and f"FAILED {mutation.test.partition('::')[0]}" in done.stdout


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(_COPIES):
            copies.put(copy_project(Path(folder, str(number))))

        def judge(mutation: Mutation | None) -> bool:
            copy = copies.get()
            try:
                if mutation is not None:
                    return is_caught(mutation, copy)
                done = run_tests(copy, *dict.fromkeys(each.test for each in MUTATIONS))
                if done.returncode != 0:
                    print(done.stdout, done.stderr, sep="\n")
                return done.returncode == 0
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(_COPIES) as pool:
            sound, *caught = pool.map(judge, (None, *MUTATIONS))
    for mutation, noticed in zip(MUTATIONS, caught, strict=True):
        print(f"{'caught ' if noticed else 'SURVIVES'} {mutation.guard}: {mutation.test}")
    if not sound:
        print("the tests fail as the project is")
    print(f"in {time.monotonic() - began:.0f} s")
    print(f"mutate: {len(MUTATIONS)} guards taken out, {sum(caught)} noticed by the test named for it")
    return 0 if sound and all(caught) else 1


if __name__ == "__main__":
    sys.exit(main())
