"""Letters into the sessions of this host."""

from __future__ import annotations

from temporalio import activity

from activities.sessions.locked_folders import tolerated
from agents.inbox import deliver
from models.supervision.host_requests import DeliverLetter, ErrandResult
from models.town import TownPaths


class PostActivities:
    def __init__(self, paths: TownPaths) -> None:
        self._paths = paths

    @activity.defn
    def deliver_letter(self, request: DeliverLetter) -> ErrandResult:
        """Put a letter into the inbox of the session that it is for; delivering it twice is once.

        Where the session is over it stays in the record, and the next attempt starts with it.
        """
        folder = self._paths.session(request.rig, request.polecat, request.bead, request.attempt)
        delivered = False
        with tolerated(f"a letter for {request.polecat}"):
            delivered = deliver(folder, request.letter, self._paths.sessions)
        return ErrandResult(delivered=delivered)
