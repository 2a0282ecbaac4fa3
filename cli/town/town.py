"""`gt init`, `up`, `down`, `worker`, `demo`, `ui`, `doctor`: the life of a town."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from cli.frame.options import directory as directory_named
from models.errors import ErrorCode, GtError
from services.own_python import OWN_PYTHON

app = new_app("Towns.")


class Store(StrEnum):
    AUTO = "auto"
    EMBEDDED = "embedded"
    SERVER = "server"


@command(app, "init")
def init(
    call: Call,
    directory: Annotated[
        Path, typer.Argument(parser=directory_named, metavar="DIR", help="The town's directory; made if absent.")
    ],
    name: Annotated[str | None, typer.Option("--name", metavar="N", help="Default: the directory's name.")] = None,
    store: Annotated[Store, typer.Option("--store", help="auto: a Dolt server where `dolt` is found.")] = Store.AUTO,
) -> None:
    """Make a town directory; a second time changes nothing."""
    from services.init_town import create_town

    town, created = create_town(directory, name, store.value)
    output.say(
        f"the ledger is {town.file.store.engine}" + (" (chosen by auto)" if created and store is Store.AUTO else "")
    )
    document = {
        "name": town.file.name,
        "id": town.file.id,
        "directory": str(town.root),
        "store": town.file.store.engine.value,
        "host": town.file.host,
        "web_url": town.web_url(),
        "created": created,
    }
    output.emit(
        call, document, f"{town.root}: {'made' if created else 'a town already'}; next: cd {town.root} && gt up"
    )


@command(app, "up")
def up(
    call: Call,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when everything is healthy.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", min=0, help="Seconds to wait at most.")] = 60.0,
) -> None:
    """Start the town's services, supervised; a second time changes nothing."""
    from services.sandbox import standing_in
    from services.supervisor import up_and_down

    town = connect.open_town(call)
    report = up_and_down.up(town, wait=wait, timeout_s=timeout)
    lacks = town.temporal_listening().lacks
    if lacks:
        output.warn(lacks)
    sandbox = standing_in(town)
    document = {**output.document(report), "sandbox": output.document(sandbox)}
    output.emit(
        call, document, f"{town.file.name} is up\n{town.web_url() or 'the Web UI: gt ui'}\n{sandbox.in_words()}"
    )


@command(app, "down")
def down(
    call: Call,
    sessions: Annotated[bool, typer.Option("--sessions", help="End the polecats' sessions too.")] = False,
) -> None:
    """Stop what `gt up` started; nothing is lost, the next `gt up` goes on."""
    from services.supervisor import up_and_down

    town = connect.open_town(call)
    report = up_and_down.down(town, sessions=sessions)
    text = f"{town.file.name} is down" if report.stopped else f"{town.file.name} was down already"
    output.emit(call, {"town": town.file.name, **output.document(report)}, text)


@command(app, "worker")
def worker(
    call: Call,
    host_only: Annotated[
        bool, typer.Option("--host-only", help="Only this host's queues: git, sessions, gates.")
    ] = False,
) -> None:
    """Run a worker in the foreground, as supervisors and further hosts do."""
    town = connect.open_town(call)
    argv = [*OWN_PYTHON, "-m", "worker", "--town", str(town.root), *(["--host-only"] if host_only else [])]
    sys.stdout.flush()
    # The worker takes this process's place, so that signals reach it.
    os.execv(sys.executable, argv)  # noqa: S606


@command(app, "demo")
def demo(
    call: Call, keep: Annotated[bool, typer.Option("--keep", help="Leave the demonstration's town up.")] = False
) -> int:
    """Show the town recover from failing agents, in a scratch place."""
    from cli.demo import run

    return run(keep, "json" if call.json else "text")


@command(app, "ui")
def ui(call: Call) -> None:
    """Print the address of the Web UI; where Temporal is closed to others, open a door until Ctrl-C."""
    import asyncio

    from services.supervisor.programs import temporal_socket
    from services.temporal import web_ui

    town = connect.open_town(call)
    if not town.temporal_listening().on_socket or town.file.temporal.external:
        url = town.web_url()
        if url is None:
            raise GtError(
                ErrorCode.NOT_FOUND,
                "Temporal is external, and town.toml does not say where its Web UI is",
                f"set ui_url under [temporal] in {town.paths.config}",
            )
        output.emit(call, {"url": url, "open_until_interrupted": False}, url)
        return
    connect.require_listener(town)

    def tell(url: str) -> None:
        output.emit(call, {"url": url, "open_until_interrupted": True}, url)
        output.say("open until Ctrl-C")

    asyncio.run(web_ui.serve(temporal_socket(town), town.file.temporal.ui_port, town.file.temporal.namespace, tell))


@command(app, "doctor")
def doctor(
    call: Call,
    security: Annotated[
        bool, typer.Option("--security", help="Only how closed the town is to others: it need not be up.")
    ] = False,
) -> int:
    """Check the services and how closed the town is to others; exit 1 where something is to be mended."""
    from models.doctor import FindingState
    from services.security_checks import examine_security

    town = connect.open_town(call)
    findings = examine_security(town)
    if not security:
        from services.supervisor.service_checks import examine_services

        findings = [*examine_services(town), *findings]
    ok = all(finding.state is not FindingState.MEND for finding in findings)
    rows = [(finding.name, finding.state.value, finding.found) for finding in findings]
    mends = [f"{finding.name}: {finding.mend}" for finding in findings if finding.mend]
    text = "\n".join([output.table(("CHECK", "STATE", "FOUND"), rows), *(["", *mends] if mends else [])])
    output.emit(call, {"ok": ok, "checks": output.documents(findings)}, text)
    return 0 if ok else 1
