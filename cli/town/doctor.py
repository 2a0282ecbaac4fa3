"""`gt doctor`: looks at how a town stands, and says what to do where it could stand better."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.frame import connect, output
from cli.frame.command import Call, command, new_app

app = new_app("Checks.")


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
