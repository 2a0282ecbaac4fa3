"""The frame around both programs: arguments in, exit code out, failures told in one way."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

import typer

from cli.frame import output
from cli.frame.command import group_of
from cli.session.agent_session import Refusal
from models.errors import ErrorCode, ExitCode, GtError


def run(app: typer.Typer, program: str, argv: Sequence[str]) -> int:
    """Run one command line and return its exit code (interface.md); nothing is raised."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in argv or bool(os.environ.get("GT_DEBUG"))
    try:
        _require_text(argv)
        code = group_of(app).main(list(argv), prog_name=program, standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except GtError as error:
        output.report(error, debug=debug)
        return error.exit_code
    except Refusal as refusal:
        refused = GtError(ErrorCode.REFUSED, refusal.message, refusal.hint)
        output.report(refused, debug=debug)
        return refused.exit_code
    except typer.TyperException as error:
        return _wrong_usage(error, program)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except SystemExit:
        # typer's only exit in this mode: standard output was closed while help was printed.
        output.reader_left()
        return ExitCode.DONE
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not _has_directory():
            gone = GtError(ErrorCode.NOT_FOUND, "the current directory is gone", "cd to another one")
            output.report(gone, debug=debug)
            return gone.exit_code
        if debug:
            traceback.print_exc()
        output.say(f"error: {type(error).__name__}: {error}")
        output.say(f"hint: this is a defect; see where with: {program} --debug …")
        return ExitCode.FAILED


def leave(code: int) -> int:
    """End the process, or return `code` where the interpreter can end it by itself.

    Threads of Temporal's client outlive it: when one of them calls back while the interpreter shuts
    down, the process aborts with 134 instead of its exit code.
    """
    if "temporalio" in sys.modules:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    return code


def _has_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _require_text(argv: Sequence[str]) -> None:
    for word in argv:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            raise GtError(ErrorCode.INVALID_VALUE, f"the argument {ascii(word)[:60]} is not valid UTF-8") from None


def _wrong_usage(error: typer.TyperException, program: str) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else program
    if type(error).__name__ == "NoArgsIsHelpError":
        output.say(error.format_message())
        return ExitCode.USAGE
    output.say(f"error: {error.format_message()}")
    output.say(f"hint: {path} --help")
    return ExitCode.USAGE
