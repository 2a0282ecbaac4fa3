"""The town's supervised services, for workflows that have to restart one."""

from __future__ import annotations

import asyncio

from temporalio import activity

from models.errors import ErrorCode, GtError
from models.supervision.messages import ServiceName
from services.supervisor.client import State, Supervisor, SupervisorUnreachable
from services.supervisor.guard import tenant
from services.supervisor.health import ailment
from services.supervisor.programs import lock_path, program_names, supervisor_socket
from services.town import Town

STOP_WAIT_S = 30.0
"""for a service to end by itself, before it is killed"""


class ServiceActivities:
    """What `gt up` runs on this machine."""

    def __init__(self, town: Town) -> None:
        self._town = town

    @activity.defn
    async def restart_service(self, service: ServiceName) -> bool:
        """Restart a service that does not do its work. False: it does, so nothing was done.

        Raises:
            GtError: REFUSED when this town does not run it or a person has stopped it, SERVICE_FAILED when
                nobody supervises it.
        """
        return await asyncio.to_thread(self._restart, service.name)

    def _restart(self, name: str) -> bool:
        if name not in program_names(self._town):
            raise GtError(ErrorCode.REFUSED, f"this town runs no {name}")
        if ailment(self._town, name) is None:
            return False
        try:
            states = {row.name: row.state for row in Supervisor(supervisor_socket(self._town)).programs()}
        except SupervisorUnreachable as error:
            raise GtError(ErrorCode.SERVICE_FAILED, f"nobody supervises {name}: {error}", "gt up") from None
        if states.get(name) is State.STOPPED:
            raise GtError(ErrorCode.REFUSED, f"{name} was stopped by a person", "gt up")
        # Its supervisor starts it again. Stopped and started there, it stays stopped if this process ends between.
        holder = tenant(lock_path(self._town, name))
        if holder is not None:
            holder.end(STOP_WAIT_S)
        return True
