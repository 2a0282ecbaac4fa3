"""Questions to the record and writes into it.

The ledger is opened at the first call, not with the worker: a worker starts, and its other
activities work, while the ledger is down. Calls are short and blocking; they run in threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from temporalio import activity

from activities.crash_points import crash_point
from ledger.store import Ledger
from models.errors import ErrorCode, GtError
from models.job.messages import Admission, DispatchFacts, DispatchFactsRequest, RigFacts, RigName, SlingRequest
from models.ledger.records import BeadRef, BeadStatusReply, BranchRenamed, JobWrites, Rig
from models.mayor.escalations import EscalationRef, EscalationStatus
from models.mayor.mail import Message
from models.refinery.answers import QueueFacts, QueueFactsRequest
from models.supervision.messages import TownFacts
from services.notifications.files import AlertFiles, mirror_of

_OPEN_ANEW = frozenset({ErrorCode.LEDGER_UNREACHABLE, ErrorCode.LEDGER_DAMAGED, ErrorCode.LEDGER_NEWER})
"""After these the ledger may have been restored or upgraded: its schema is checked again."""
UNREAD_TOLD = 50
"""letters that an agent finds when it starts"""


class LedgerActivities:
    """The record, for workflows.

    Args:
        ledger_source: opens the ledger; called again after the ledger could not be used.
        default_agent: the town's agent command, for rigs that name none.
        alert_files: where the record's alert rules are kept for when the record cannot be read.
    """

    def __init__(
        self,
        ledger_source: Callable[[], Ledger],
        default_agent: str | None = None,
        alert_files: AlertFiles | None = None,
    ) -> None:
        self._source = ledger_source
        self._default_agent = default_agent
        self._alert_files = alert_files
        self._ledger: Ledger | None = None
        self._opening = threading.Lock()

    @activity.defn
    def admit_bead(self, request: SlingRequest) -> Admission:
        """Whether a bead may be worked on, and what a job needs to know of it."""
        with self._opened() as ledger:
            return ledger.admission(request, self._default_agent)

    @activity.defn
    def record_job(self, writes: JobWrites) -> None:
        """Take a job's writes, in order; what was taken before changes nothing."""
        with self._opened() as ledger:
            ledger.record_job(writes.writes)

    @activity.defn
    def dispatch_facts(self, request: DispatchFactsRequest) -> DispatchFacts:
        """What a dispatcher's cycle reads."""
        with self._opened() as ledger:
            return ledger.dispatch_facts(request)

    @activity.defn
    def rename_branch(self, renamed: BranchRenamed) -> Rig:
        """A rig's branch was renamed on the remote: the rig as it is from now on."""
        with self._opened() as ledger:
            return ledger.rename_branch(renamed)

    @activity.defn
    def load_rig(self, request: RigName) -> RigFacts:
        """What a rig's long-lived workflow reads each cycle."""
        with self._opened() as ledger:
            return ledger.rig_facts(request)

    @activity.defn
    def queue_facts(self, request: QueueFactsRequest) -> QueueFacts:
        """What a Refinery's cycle reads."""
        with self._opened() as ledger:
            return ledger.queue_facts(request)

    @activity.defn
    def town_facts(self) -> TownFacts:
        """What Deacon and Mayor read each cycle; that it is answered is a check in itself.

        The mirror of alert rules is brought up to date on the way.
        """
        with self._opened() as ledger:
            self._mirror_alerts(ledger)
            return ledger.town_facts()

    def _mirror_alerts(self, ledger: Ledger) -> None:
        if self._alert_files is None:
            return
        try:
            self._alert_files.refresh_mirror(lambda: mirror_of(ledger))
        except OSError as error:
            # A full disk must not hide the settings: the last mirror holds.
            activity.logger.warning("alert rules cannot be mirrored: %s", error)
        except GtError as error:
            if error.code is not ErrorCode.TIMED_OUT:
                raise
            activity.logger.warning("alert rules are being mirrored by another: %s", error.message)

    @activity.defn
    def bead_status(self, request: BeadRef) -> BeadStatusReply:
        """How a bead stands."""
        with self._opened() as ledger:
            bead = ledger.bead(request.bead)
        return BeadStatusReply(status=bead.status, merged_sha=bead.merged_sha, close_reason=bead.close_reason)

    @activity.defn
    def recorded_escalation(self, asked: EscalationRef) -> EscalationStatus:
        """Where an escalation stands in the record."""
        with self._opened() as ledger:
            return ledger.escalation(asked.id)

    @activity.defn
    def record_escalation(self, escalation: EscalationStatus) -> None:
        """Record where an escalation stands."""
        with self._opened() as ledger:
            ledger.record_escalation(escalation)

    def unread_mail(self, address: str) -> list[Message]:
        """What an address has not read, oldest first; the newest where there is much of it."""
        with self._opened() as ledger:
            return ledger.inbox(address, unread_only=True, limit=UNREAD_TOLD)

    def close(self) -> None:
        """Close the ledger if it was opened."""
        with self._opening:
            ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()

    @contextmanager
    def _opened(self) -> Iterator[Ledger]:
        ledger = self._ledger or self._open()
        try:
            yield ledger
        except GtError as error:
            if error.code in _OPEN_ANEW:
                self._forget(ledger)
            raise

    def _open(self) -> Ledger:
        # Outside the lock: while the ledger is down each call fails after its own patience, not
        # after that of every call before it.
        mine = self._source()
        mine.announce = crash_point
        with self._opening:
            if self._ledger is None:
                self._ledger = mine
            ledger = self._ledger
        if ledger is not mine:
            mine.close()
        return ledger

    def _forget(self, ledger: Ledger) -> None:
        with self._opening:
            if self._ledger is ledger:
                self._ledger = None
        ledger.close()
