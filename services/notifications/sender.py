"""Sends one message through one channel, in a process of its own.

    python -m services.notifications.sender --town DIR  < message as JSON

A process, because the library takes long to load, a service that hangs can be ended with it, and the channel's
URL, a secret, is then in no other memory. It reads the URL from the town's private file itself: the URL is in no
argument and no environment, and what the library says of a failure is cleared of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from models.errors import ErrorCode, ExitCode, GtError
from models.mayor.alerts import Edge, Message, Priority
from models.town import TownPaths
from services.notifications.files import AlertFiles
from services.notifications.text import body_of, title_of, without_calls
from services.own_python import OWN_PYTHON
from services.redaction import Redactor
from services.town import find_town

SEND_S = 60.0
"""Longer than the library's own limits for one request; a sender that takes longer is ended."""
MAX_ERROR = 300
"""characters of a service's words"""
_SECRET_LENGTH = 4
"""Shorter parts of a URL are words, not secrets."""


async def send(root: Path, message: Message, timeout_s: float = SEND_S) -> None:
    """Send a message; one that has arrived before counts as sent.

    Args:
        root: the town's directory.
        message: its channel says where to.
        timeout_s: for the whole sending.

    Raises:
        GtError: NOT_FOUND when the channel has no URL, CHANNEL_FAILED when it did not take the message; that
            is noted in the town's files too.
    """
    files = AlertFiles(TownPaths(root))
    process = await asyncio.create_subprocess_exec(
        *(*OWN_PYTHON, "-m", "services.notifications.sender", "--town", str(root)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            _, said = await process.communicate(message.model_dump_json().encode())
    except TimeoutError:
        code, error = None, f"no answer within {timeout_s:.0f} s"
    else:
        code, error = process.returncode, said.decode("utf-8", "replace").strip()[-MAX_ERROR:]
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code == ExitCode.NOT_FOUND:
        raise GtError(ErrorCode.NOT_FOUND, error, f"gt alert channel add {message.channel}")
    if code != ExitCode.DONE:
        error = error or "the sender died"
        with contextlib.suppress(OSError):  # where even that cannot be written, the retry still goes on
            files.note_failure(message.channel, error, title_of(message, "…"))
        raise GtError(ErrorCode.CHANNEL_FAILED, f"channel {message.channel}: {error}", "gt alert channel list")
    with contextlib.suppress(OSError):  # it has arrived, whatever the files say
        files.forget_failure(message.channel)


def check_url(url: str) -> None:
    """Return when the library understands `url`.

    Raises:
        GtError: INVALID_VALUE; the message does not repeat the URL.
    """
    from apprise import Apprise  # noqa: PLC0415 - heavy

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    if not Apprise().add(url):
        raise GtError(
            ErrorCode.INVALID_VALUE, "that is no notification URL", "forms: https://github.com/caronc/apprise/wiki"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Send the message on standard input.")
    parser.add_argument("--town", type=Path, required=True)
    try:
        town = find_town(parser.parse_args().town)
        _deliver(
            AlertFiles(town.paths),
            Redactor(town.paths),
            Message.model_validate_json(sys.stdin.buffer.read()),
            town.file.name,
        )
    except GtError as error:
        print(error.message, file=sys.stderr)
        sys.exit(int(error.exit_code))


def _deliver(files: AlertFiles, redactor: Redactor, message: Message, town: str) -> None:
    # Held while it is sent: a second sender of the same message waits, and then finds that it has arrived.
    with files.sending(message) as arrived:
        if arrived:
            return
        url = files.channels().get(message.channel)
        if url is None:
            raise GtError(ErrorCode.NOT_FOUND, f"channel {message.channel} has no URL")
        title, body = redactor.text(title_of(message, town)), redactor.text(body_of(message))
        problem = _notify(url, title, body, _kind(message))
        if problem is not None:
            raise GtError(ErrorCode.CHANNEL_FAILED, problem)
        try:
            files.note_sent(message)
        except OSError as error:
            # It has arrived: a failure here would send it again.
            print(f"{message.id} cannot be noted as sent: {error}", file=sys.stderr)


def _notify(url: str, title: str, body: str, kind: str) -> str | None:
    """None when the service took the message, else what it said, without the URL's secrets."""
    import apprise  # noqa: PLC0415 - heavy

    scheme = url.partition(":")[0].strip()
    asset = apprise.AppriseAsset(app_id="Gas Town", app_desc="Gas Town", allow_templates=False)
    service = apprise.Apprise(asset=asset)
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as said:  # type: ignore[no-untyped-call]
        taken = service.add(url) and service.notify(
            title=without_calls(title, scheme),
            body=without_calls(body, scheme),
            notify_type=kind,
            body_format=apprise.NotifyFormat.TEXT,
            interpret_escapes=False,
        )
        words = said.getvalue()
    return None if taken else redacted(" ".join(words.split()) or "the service did not take it", url)[:MAX_ERROR]


def _kind(message: Message) -> str:
    """The library's word for how bad it is; services turn it into a colour."""
    if all(notice.edge is Edge.END for notice in message.notices):
        return "success"
    critical = any(notice.priority is Priority.CRITICAL and notice.edge is not Edge.END for notice in message.notices)
    return "failure" if critical else "warning"


def redacted(text: str, url: str) -> str:
    """`text` without any part of `url` that may be secret: all but scheme and a host with a dot in it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    secrets = {word for whole in (url, unquote(url)) for word in re.split(r"[/?&=:@,;#\s]+", whole)}
    shown = {parts.scheme, host if "." in host else ""}
    hidden = {word for word in secrets if len(word) >= _SECRET_LENGTH and word.lower() not in shown}
    for word in sorted(hidden, key=len, reverse=True):
        text = re.sub(re.escape(word), "***", text, flags=re.IGNORECASE)
    return text


if __name__ == "__main__":
    main()
