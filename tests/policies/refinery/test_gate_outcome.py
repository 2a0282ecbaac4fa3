"""What a gate's end means, which variables it sees, and how its log is shown."""

from __future__ import annotations

import pytest

from models.refinery.gates import GateOutcome
from policies.refinery.gate_environment import RUN_MARK, gate_environment
from policies.refinery.gate_outcome import TAIL_BYTES, gate_end, readable_tail


class TestEnd:
    def test_only_exit_code_zero_passes(self) -> None:
        assert gate_end(0).outcome is GateOutcome.PASSED
        assert gate_end(0, disk_full=True, tail="No space left on device").outcome is GateOutcome.PASSED

    @pytest.mark.parametrize("exit_code", [1, 2, 5, 64, 125, 128, 255, 200])
    def test_an_exit_code_of_the_command_blames_the_change(self, exit_code: int) -> None:
        assert gate_end(exit_code) == (GateOutcome.FAILED, "")

    @pytest.mark.parametrize(
        ("exit_code", "reason"),
        [
            (126, "not_executable"),
            (127, "no_such_command"),
            (-9, "killed"),
            (-15, "killed"),
            (-1, "killed"),
            (-24, "killed"),
            (-13, "killed"),
            (128 + 9, "killed"),
            (128 + 15, "killed"),
            (128 + 2, "killed"),
        ],
    )
    def test_a_gate_that_could_not_run_blames_nobody(self, exit_code: int, reason: str) -> None:
        assert gate_end(exit_code) == (GateOutcome.COULD_NOT_RUN, reason)

    @pytest.mark.parametrize("exit_code", [-11, -6, -8, 128 + 11, 128 + 6])
    def test_a_crash_of_the_program_blames_the_change(self, exit_code: int) -> None:
        assert gate_end(exit_code).outcome is GateOutcome.FAILED

    @pytest.mark.parametrize("exit_code", [0, 1, -9, -15])
    def test_time_over_blames_nobody_whatever_the_exit_code(self, exit_code: int) -> None:
        assert gate_end(exit_code, timed_out=True) == (GateOutcome.COULD_NOT_RUN, "timed_out")

    def test_a_full_disk_blames_nobody(self) -> None:
        assert gate_end(1, disk_full=True).reason == "disk_full"
        assert gate_end(1, tail="OSError: [Errno 28] No space left on device").reason == "disk_full"


class TestTail:
    def test_colours_titles_and_progress_go(self) -> None:
        output = b"\x1b]0;title\x07\x1b[1;31mFAILED\x1b[0m test\r\n10%\r50%\r100%\nend\x00\n\n"
        assert readable_tail(output) == "FAILED test\n100%\nend"

    def test_bytes_that_are_not_utf8_are_replaced(self) -> None:
        assert readable_tail(b"caf\xe9 ok") == "caf\ufffd ok"

    def test_the_last_whole_lines_within_the_limit_stay(self) -> None:
        tail = readable_tail("".join(f"line {number} ü\n" for number in range(2000)).encode())
        assert len(tail.encode()) <= TAIL_BYTES
        assert tail.endswith("line 1999 ü")
        assert tail.startswith("line ")

    def test_one_endless_line_is_cut_at_a_character(self) -> None:
        tail = readable_tail("ü".encode() * 10_000)
        assert set(tail) == {"ü"}
        assert TAIL_BYTES - 2 <= len(tail.encode()) <= TAIL_BYTES


class TestEnvironment:
    @pytest.mark.parametrize(
        "name",
        [
            *("GT_TOWN", "TEMPORAL_ADDRESS", "SSH_AUTH_SOCK", "GIT_DIR", "AWS_PROFILE", "GITHUB_TOKEN", "NPM_TOKEN"),
            *("MY_SECRET", "DB_PASSWORD", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "http_auth", "PYTHONPATH", "TMUX"),
        ],
    )
    def test_credentials_and_our_own_variables_stay_behind(self, name: str) -> None:
        assert name not in gate_environment({name: "x"}, "/home", "mark")

    def test_a_url_with_a_password_stays_behind_under_any_name(self) -> None:
        assert "DATABASE" not in gate_environment({"DATABASE": "postgres://u:p@host/db"}, "/home", "mark")

    def test_path_locale_and_toolchain_pass_and_home_is_replaced(self) -> None:
        inherited = {"PATH": "/venv/bin:/bin", "LANG": "C.UTF-8", "JAVA_HOME": "/jdk", "HOME": "/root"}
        seen = gate_environment(inherited, "/scratch", "mark")
        assert {name: seen[name] for name in ("PATH", "LANG", "JAVA_HOME", "HOME", "CI", RUN_MARK)} == {
            "PATH": "/venv/bin:/bin",
            "LANG": "C.UTF-8",
            "JAVA_HOME": "/jdk",
            "HOME": "/scratch",
            "CI": "true",
            RUN_MARK: "mark",
        }
