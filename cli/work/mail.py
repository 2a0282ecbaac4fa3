"""`gt mail`: messages between roles and people, kept in Dolt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.beads.comments import read_text
from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import LimitOption
from cli.session import agent_rights
from models import names
from models.errors import ErrorCode, GtError, Level

if TYPE_CHECKING:
    from ledger.store import Ledger
    from models.ledger.records import JobRow
    from models.mayor.mail import Message
    from services.town import Town

app = new_app("Mail.")
mail = new_app("Messages between roles and people, kept in Dolt.")
app.add_typer(mail, name="mail")

HUMAN = "human"
"""whoever sits at the terminal"""

SubjectOption = Annotated[
    str, typer.Option("-s", "--subject", metavar="SUBJECT", help="What it is about, in one line.")
]
BodyArgument = Annotated[str, typer.Argument(metavar="[BODY]", help="The words; - reads them from standard input.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A message's id, out of `gt mail inbox`.")]
IdentityOption = Annotated[
    str | None,
    typer.Option("--identity", metavar="WHO", help="Whose: shop/toast, shop/refinery, mayor, …; by default yours."),
]
SendIdOption = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="For scripts: sending again with this id is one message.")
]


@command(mail, "send")
def send(
    call: Call,
    to: Annotated[str, typer.Argument(metavar="TO", help="shop/toast, shop/refinery, mayor, deacon, human or a name.")],
    subject: SubjectOption,
    body: BodyArgument = "",
    id: SendIdOption = None,
) -> None:
    """Send a message."""
    names.valid_address(to)
    _send(call, to, subject, read_text(body), id, None)


@command(mail, "reply")
def reply(call: Call, id: IdArgument, body: BodyArgument, new_id: SendIdOption = None) -> None:
    """Answer a message; the answer goes to who sent it."""
    town = connect.open_town(call)
    with connect.open_ledger(town) as ledger:
        answered = ledger.mail(id)
    subject = answered.subject if answered.subject.lower().startswith("re:") else f"Re: {answered.subject}"
    _send(call, answered.sender, subject[:500], read_text(body), new_id, id)


@command(mail, "inbox")
def inbox(
    call: Call,
    identity: IdentityOption = None,
    unread: Annotated[bool, typer.Option("--unread", help="Only what was not read yet.")] = False,
    limit: LimitOption = None,
) -> None:
    """List messages to you, oldest first."""
    whose = names.valid_address(identity or _me())
    with connect.open_ledger(connect.open_town(call)) as ledger:
        found = ledger.inbox(whose, unread_only=unread, limit=limit)
    _emit(call, found, "no messages")


@command(mail, "read")
def read(call: Call, id: IdArgument) -> None:
    """Show a message, and note that it was read."""
    with connect.open_ledger(connect.open_town(call)) as ledger:
        message = ledger.mark_mail_read(id, by=_me())
    heads = {"From": message.sender, "To": message.recipient, "At": message.sent_at, "Subject": message.subject}
    output.emit(call, _document(message), f"{output.fields(heads)}\n\n{_words(message)}")


@command(mail, "search")
def search(
    call: Call,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words in the subject or the body.")],
    identity: IdentityOption = None,
    limit: LimitOption = None,
) -> None:
    """Find messages by words in them, newest first."""
    if not text.strip():
        raise GtError(ErrorCode.INVALID_VALUE, "nothing to look for was named", "gt mail search TEXT")
    if identity is not None:
        names.valid_address(identity)
    with connect.open_ledger(connect.open_town(call)) as ledger:
        found = ledger.search_mail(text, identity, limit)
    _emit(call, found, "nothing was found")


def _send(call: Call, to: str, subject: str, body: str, id: str | None, reply_to: str | None) -> None:
    import secrets
    from datetime import UTC, datetime

    agent_rights.require_recipient(to)
    town = connect.open_town(call)
    message = _message(
        id=id or f"m-{secrets.token_hex(8)}", sender=_me(), recipient=to,
        subject=connect.without_secrets(town, subject), body=connect.without_secrets(town, body),
        reply_to=reply_to, sent_at=datetime.now(UTC),
    )  # fmt: skip
    with connect.open_ledger(town) as ledger:
        sent = ledger.send_mail(message)
        delivered = _deliver(town, ledger, sent)
    if to == names.MAYOR_ID:
        _tell_mayor(town, sent)
    output.emit(call, {**_document(sent), "delivered": delivered}, f"{sent.id}: sent to {to}")


def _message(**told: Any) -> Message:
    from pydantic import ValidationError

    from models.mayor.mail import Message

    if not str(told["subject"]).strip():
        raise GtError(ErrorCode.INVALID_VALUE, "the subject is empty", "gt mail send TO -s SUBJECT BODY")
    try:
        return Message(**told)
    except ValidationError as error:
        problem = error.errors()[0]
        raise GtError(ErrorCode.INVALID_VALUE, f"{problem['loc'][0]}: {problem['msg']}") from None


def _deliver(town: Town, ledger: Ledger, message: Message) -> bool:
    """Put it into the inbox of the recipient's session, or have that done on the host where the session runs.

    Returns:
        Whether the session has it now. On another host that is not waited for; without a session, or where
        that host cannot be told, the letter waits in the record for the next attempt.
    """
    from agents.inbox import deliver

    rig, _, name = message.recipient.partition("/")
    slot = next((one for one in ledger.polecats(rig) if one.name == name), None) if name else None
    job = ledger.job(slot.bead) if slot is not None and slot.bead else None
    if slot is None or job is None:
        return False
    if slot.host == town.file.host:
        return deliver(town.paths.session(rig, name, job.bead, job.attempt), message)
    _send_to_host(town, slot.host, job, message)
    return False


def _send_to_host(town: Town, host: str, job: JobRow, message: Message) -> None:
    from cli.frame.host_requests import send_host
    from models.supervision.host_requests import DeliverLetter

    rig, _, polecat = message.recipient.partition("/")
    order = DeliverLetter(rig=rig, polecat=polecat, bead=job.bead, attempt=job.attempt, letter=message)
    try:
        send_host(town, host, order, f"mail.{message.id}")
    except GtError as error:
        output.warn(f"{host} was not told ({error.message}); the message waits for the next attempt")


def _tell_mayor(town: Town, message: Message) -> None:
    """The Mayor hears of it by signal; where he cannot be reached it waits in his inbox."""
    from models.mayor.escalations import Escalation
    from services.temporal import long_lived

    escalation = Escalation(
        id=f"mail-{message.id}", kind="help", level=Level.L2, severity="medium", source=message.sender,
        message=message.subject, evidence=message.body, opened_at=message.sent_at,
    )  # fmt: skip
    try:
        connect.converse(town, lambda client: long_lived.tell_mayor(client, escalation))
    except GtError as error:
        output.warn(f"the Mayor was not told ({error.message}); the message waits in his inbox")


def _me() -> str:
    """The polecat in whose session the command runs, or whoever sits at the terminal."""
    me = connect.writer()
    return me if "/" in me else HUMAN


def _document(message: Message) -> dict[str, Any]:
    return {**output.document(message), "kind": message.kind.value, "read": message.read_at is not None}


def _words(message: Message) -> str:
    if message.protocol is None:
        return message.body
    return output.fields({key: _plain(value) for key, value in message.protocol.items()})


def _plain(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _emit(call: Call, messages: list[Message], nothing: str) -> None:
    rows = [
        ("" if one.read_at else "*", one.id, one.sent_at, one.sender, one.recipient, one.kind, one.subject)
        for one in messages
    ]
    table = output.table(("NEW", "ID", "AT", "FROM", "TO", "KIND", "SUBJECT"), rows)
    output.emit(call, [_document(one) for one in messages], table if rows else nothing)
