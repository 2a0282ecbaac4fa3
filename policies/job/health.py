"""Diagnosis of one session: what a patrol makes of what it sees (product.md section 4).

The first rule that fits decides; their order is the policy. Its signature is that of a rig's own
`recovery.policy` too, whose verdicts must pass `objection`.
"""

from __future__ import annotations

from typing import Final

from models.job.health import Diagnosis, HealthKind, Sighting, Thresholds
from models.job.messages import ObservationKind
from policies.job.prompts import known_prompt

ACCUSATIONS: Final = frozenset(
    {HealthKind.STALE, HealthKind.UNRESPONSIVE, HealthKind.STUCK, HealthKind.WAITING_FOR_INPUT}
)
"""Verdicts from which a living session may recover."""

QUESTION_S: Final = 30.0
"""A question that stands in a quiet pane for longer is a person's. Programs ask before they begin (is this folder to be
trusted, which account) and in mid-work (may this command be run), and whoever reads a screen answers sooner."""

_NO_QUESTION: Final = frozenset({"idle", "shell"})
"""Prompts at which an agent that works in silence may be seen too."""

_WELL: Final = frozenset({HealthKind.HEALTHY, HealthKind.RECOVERED})
_REPORTED: Final = {
    HealthKind.STALE: ObservationKind.STALE,
    HealthKind.RECOVERED: ObservationKind.RECOVERED,
    HealthKind.UNRESPONSIVE: ObservationKind.UNRESPONSIVE,
    HealthKind.STUCK: ObservationKind.STUCK,
    HealthKind.WAITING_FOR_INPUT: ObservationKind.STUCK,
    HealthKind.FINISHED_WITHOUT_DONE: ObservationKind.DIED,
}


def diagnose(sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None) -> Diagnosis:
    """The verdict on one session.

    An accepted `gt done` comes before death, because agents end after it. A dead pane is dead
    however fresh its heartbeat is. A session that was never seen running cannot have died: its
    start is still under way, or will be repeated. Silence is stale first, always, and unresponsive
    only when the whole grace has passed since it was marked so.

    Args:
        earlier: the verdict of the look before; None at the first look.
    """
    if sighting.superseded:
        return _verdict(HealthKind.ZOMBIE, "superseded", "its job is over, or a newer attempt runs")
    if sighting.done_told:
        return _well(earlier, "done_told", "gt done was accepted")
    if not sighting.started:
        return _well(earlier, "not_started", "its session was not seen running yet")
    return (
        _dead(sighting)
        or _silent(sighting, thresholds, earlier)
        or _idle(sighting, thresholds)
        or _working(sighting, earlier)
    )


def is_dead(sighting: Sighting) -> bool:
    """The session has run and does not any more."""
    return sighting.started and (sighting.pane_dead or not sighting.present)


def needs_tail(sighting: Sighting, thresholds: Thresholds) -> bool:
    """Whether the pane's last lines may change the verdict; reading them costs a subprocess."""
    return not is_dead(sighting) and (sighting.progress_age_s > thresholds.stuck_timeout_s or _is_quiet(sighting))


def reported_as(kind: HealthKind, sighting: Sighting) -> ObservationKind | None:
    """What the job is told of a verdict; None: nothing."""
    if kind is HealthKind.UNRESPONSIVE and is_dead(sighting):
        return ObservationKind.DIED
    return _REPORTED.get(kind)


def objection(sighting: Sighting, diagnosis: Diagnosis) -> str:
    """Why a verdict cannot be, whoever gave it; "" when it can.

    An own strategy may weigh what it sees differently. What the town knows for certain (what is
    over, handed in, not started yet, dead) is not its to deny, because work would hang on it for ever.
    """
    kind = diagnosis.kind
    if (kind is HealthKind.ZOMBIE) != sighting.superseded:
        return f"{kind} although the attempt is {'' if sighting.superseded else 'not '}superseded"
    if sighting.superseded:
        return ""
    if (sighting.done_told or not sighting.started) and kind not in _WELL:
        return f"{kind} although {'gt done was accepted' if sighting.done_told else 'nothing was started yet'}"
    if sighting.done_told:
        return ""
    if is_dead(sighting) and (kind in _WELL or kind is HealthKind.STALE):
        return f"{kind} although the session is dead"
    if kind is HealthKind.FINISHED_WITHOUT_DONE and not (sighting.pane_dead and sighting.exit_code == 0):
        return f"{kind} although the agent did not end with exit code 0"
    return ""


def _dead(sighting: Sighting) -> Diagnosis | None:
    if not sighting.present:
        return _verdict(HealthKind.UNRESPONSIVE, "session_gone", "its tmux session is gone")
    if not sighting.pane_dead:
        return None
    if sighting.exit_code == 0:
        return _verdict(HealthKind.FINISHED_WITHOUT_DONE, "exit_without_done", "exit code 0 without gt done")
    how = "" if sighting.exit_code is None else f" with exit code {sighting.exit_code}"
    return _verdict(HealthKind.UNRESPONSIVE, "pane_dead", f"the agent's process ended{how}")


def _silent(sighting: Sighting, thresholds: Thresholds, earlier: HealthKind | None) -> Diagnosis | None:
    limit = thresholds.session_timeout_s
    if 0 < limit < sighting.session_age_s:
        return _verdict(
            HealthKind.UNRESPONSIVE,
            "session_timeout",
            f"runs for {sighting.session_age_s:.0f} s, longer than health.session_timeout ({limit:.0f} s)",
        )
    age, limit, grace = sighting.heartbeat_age_s, thresholds.polecat_timeout_s, thresholds.grace_s
    if age is None or age <= limit:
        return None
    silence = f"no heartbeat for {age:.0f} s, longer than health.polecat_timeout ({limit:.0f} s)"
    if earlier is HealthKind.UNRESPONSIVE or (earlier is HealthKind.STALE and sighting.verdict_age_s >= grace):
        return _verdict(HealthKind.UNRESPONSIVE, "heartbeat_lost", f"{silence}, and the grace ({grace:.0f} s) is over")
    return _verdict(HealthKind.STALE, "heartbeat_stale", f"{silence}; {grace:.0f} s of grace")


def _idle(sighting: Sighting, thresholds: Thresholds) -> Diagnosis | None:
    age, limit = sighting.progress_age_s, thresholds.stuck_timeout_s
    if age <= limit:
        asks = known_prompt(sighting.tail) if _is_quiet(sighting) else ""
        if not asks or asks in _NO_QUESTION:
            return None
        silence = f"nothing new in its pane for {sighting.output_age_s:.0f} s"
        return _verdict(HealthKind.WAITING_FOR_INPUT, f"prompt_{asks}", f"{silence}, which shows a question")
    quiet = f"no progress for {age:.0f} s, longer than health.stuck_timeout ({limit:.0f} s)"
    prompt = known_prompt(sighting.tail)
    if prompt:
        return _verdict(HealthKind.WAITING_FOR_INPUT, f"prompt_{prompt}", f"{quiet}; the pane shows a prompt")
    spinning = "; it still writes to its pane" if sighting.output_age_s < limit else ""
    return _verdict(HealthKind.STUCK, "no_progress", quiet + spinning)


def _is_quiet(sighting: Sighting) -> bool:
    return min(sighting.progress_age_s, sighting.output_age_s) > QUESTION_S


def _working(sighting: Sighting, earlier: HealthKind | None) -> Diagnosis:
    beat = "" if sighting.heartbeat_age_s is None else f"heartbeat {sighting.heartbeat_age_s:.0f} s ago, "
    return _well(earlier, "works", f"{beat}progress {sighting.progress_age_s:.0f} s ago")


def _well(earlier: HealthKind | None, rule: str, reason: str) -> Diagnosis:
    kind = HealthKind.RECOVERED if earlier in ACCUSATIONS else HealthKind.HEALTHY
    return _verdict(kind, rule, reason)


def _verdict(kind: HealthKind, rule: str, reason: str) -> Diagnosis:
    return Diagnosis(kind=kind, rule=rule, reason=reason)
