"""Errors: a closed set, each with level, exit code and whether a retry helps."""

from __future__ import annotations

from activities.interceptor import as_application_error
from models.errors import ErrorCode, ExitCode, GtError, Level


def test_every_code_has_its_traits_and_temporal_carries_them() -> None:
    for code in ErrorCode:
        error = GtError(code, "what happened", "gt status")
        assert error.level in Level
        assert error.exit_code in ExitCode
        assert error.exit_code is not ExitCode.DONE
        failure = as_application_error(error)
        assert failure.type == code
        assert failure.details == (error.level.value, "gt status")
        assert failure.non_retryable is not error.retryable


def test_servers_that_do_not_answer_end_a_command_with_four() -> None:
    for code in (ErrorCode.TEMPORAL_UNREACHABLE, ErrorCode.LEDGER_UNREACHABLE, ErrorCode.REMOTE_UNREACHABLE):
        assert GtError(code, "").exit_code == 4
