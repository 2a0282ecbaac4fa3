"""A word from a person into a polecat's session."""

from __future__ import annotations

from typing import Final

from temporalio import activity

from activities.sessions.tmux import Tmux
from models import names
from models.errors import ErrorCode, GtError
from models.supervision.host_requests import ErrandResult, Nudge
from models.texts import plain

LONGEST: Final = 10_000
"""characters"""


class NudgeActivities:
    def __init__(self, tmux: Tmux) -> None:
        self._tmux = tmux

    @activity.defn
    def nudge(self, request: Nudge) -> ErrandResult:
        """Type the text and press Enter, once it was seen to arrive; a retry types nothing twice.

        Raises:
            GtError: INVALID_VALUE for no text or a very long one, REFUSED without a living session, TMUX_FAILED.
        """
        text = plain(request.text).strip()
        if not text or len(text) > LONGEST:
            raise GtError(ErrorCode.INVALID_VALUE, f"a nudge has 1 to {LONGEST} characters")
        session = names.session_name(request.rig, request.polecat)
        pane = self._tmux.panes().get(session)
        if pane is None or not pane.alive:
            where = names.polecat_address(request.rig, request.polecat)
            raise GtError(ErrorCode.REFUSED, f"{where} has no living session", f"gt polecat status {request.polecat}")
        self._tmux.send_text(session, text, request.letter)
        return ErrandResult()
