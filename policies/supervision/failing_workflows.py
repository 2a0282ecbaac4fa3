"""Jobs and merges whose code fails: each is set going again once; one that fails again needs a person."""

from __future__ import annotations

from models.base import Frozen
from models.supervision.messages import CheckResult, Wedged

KEPT = 200
"""runs remembered of those that were set going again; the oldest are forgotten"""
KEY = "wedged/"


class WedgedMemory(Frozen):
    """What the Deacon remembers of them from cycle to cycle."""

    owed: tuple[Wedged, ...] = ()
    """found, and not set going again yet"""
    tried: tuple[Wedged, ...] = ()
    """runs that were ended for it, the newest last"""
    again: tuple[str, ...] = ()
    """ids that fail again"""

    def found(self, wedged: tuple[Wedged, ...] | None) -> WedgedMemory:
        """Take in a look; None, which is no look, changes nothing.

        What is owed stays owed until it is done: half way through nothing runs that could be found.
        """
        if wedged is None:
            return self
        known = {one.workflow_id for one in (*self.owed, *self.tried)}
        new = tuple(one for one in wedged if one.workflow_id not in known)
        tried = {one.workflow_id for one in self.tried}
        # Of a run that was ended a list may still tell for a moment.
        again = tuple(one.workflow_id for one in wedged if one.workflow_id in tried and one not in self.tried)
        return self.model_copy(update={"owed": (*self.owed, *new), "again": again})

    def done(self, wedged: Wedged, *, ended: bool) -> WedgedMemory:
        """Nothing is owed to it any more.

        Args:
            ended: its run was ended; otherwise it went on by itself.
        """
        owed = tuple(one for one in self.owed if one != wedged)
        tried = (*self.tried, wedged)[-KEPT:] if ended else self.tried
        return self.model_copy(update={"owed": owed, "tried": tried})

    def checks(self, told: dict[str, str]) -> tuple[CheckResult, ...]:
        """One for each that fails again, and for each that did when it was last told.

        Args:
            told: keys of checks that failed before.
        """
        before = [key.removeprefix(KEY) for key in told if key.startswith(KEY)]
        # No set: what is told is told in this order, which must be the same when it is replayed.
        either = dict.fromkeys((*self.again, *before))
        return tuple(_check(workflow_id, failing=workflow_id in self.again) for workflow_id in either)


def _check(workflow_id: str, *, failing: bool) -> CheckResult:
    role, rig, _ = workflow_id.split("/")
    mend = f"gt polecat recover --rig {rig}" if role == "polecat" else f"gt refinery queue --rig {rig}"
    return CheckResult(
        name="wedged",
        subject=workflow_id,
        ok=not failing,
        detail=f"{workflow_id}: its code fails again after a restart" if failing else f"{workflow_id} does not fail",
        hint=f"its worker's log says why; once that is mended: {mend}",
    )
