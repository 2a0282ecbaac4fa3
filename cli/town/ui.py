"""`gt ui`: the address of Temporal's Web UI, and a door to it where it has none."""

from __future__ import annotations

import asyncio

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app
from models.errors import ErrorCode, GtError

app = new_app("The Web UI.")


@command(app, "ui")
def ui(call: Call) -> None:
    """Print the address of the Web UI; where Temporal is closed to others, open a door until Ctrl-C."""
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
