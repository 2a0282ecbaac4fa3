"""Errors: a closed set, each with level, exit code and whether a retry helps."""

from __future__ import annotations

import pytest

from activities.interceptor import as_application_error
from models.errors import ErrorCode, ExitCode, GtError, Level


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_its_traits(code: ErrorCode) -> None:
    error = GtError(code, "what happened", "gt status")
    assert error.level in Level
    assert error.exit_code in ExitCode
    assert error.exit_code is not ExitCode.DONE


@pytest.mark.parametrize("code", list(ErrorCode))
def test_temporal_carries_code_level_and_hint(code: ErrorCode) -> None:
    failure = as_application_error(GtError(code, "what happened", "gt status"))
    assert failure.type == code
    assert failure.details == (GtError(code, "").level.value, "gt status")
    assert failure.non_retryable is not GtError(code, "").retryable


def test_servers_that_do_not_answer_end_a_command_with_four() -> None:
    for code in (ErrorCode.TEMPORAL_UNREACHABLE, ErrorCode.LEDGER_UNREACHABLE, ErrorCode.REMOTE_UNREACHABLE):
        assert GtError(code, "").exit_code == 4
