"""A rig's own diagnosis (`recovery.policy`): found by name, called with care, never trusted blindly.

`module:function` names any importable function; a bare name is an entry point of the group
`gastown.recovery`. Whatever goes wrong with it, the built-in diagnosis holds and the report says so.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, Final, NamedTuple

from models.job.health import Diagnosis, HealthKind, Sighting, Thresholds
from policies.job.health import diagnose, objection

GROUP: Final = "gastown.recovery"
ANSWER_S: Final = 1.0
"""All verdicts on a rig must come within this: looks wait for them."""
AGAIN_S: Final = 60.0
"""A policy that could not be loaded, or did not answer, is tried again after this long."""

log = logging.getLogger(__name__)

Diagnose = Callable[[Sighting, Thresholds, HealthKind | None], Diagnosis]
Answer = tuple[Diagnosis | None, str]
"""a verdict, or None and what is wrong with it"""


class Case(NamedTuple):
    """The arguments of one diagnosis."""

    sighting: Sighting
    thresholds: Thresholds
    earlier: HealthKind | None


class RecoveryPolicies:
    """The policies that rigs name, loaded when first needed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loaded: dict[str, Diagnose] = {}
        self._broken: dict[str, tuple[str, float]] = {}
        """by name: what was wrong, and when to try again"""
        self._asking: dict[str, threading.Thread] = {}

    def judge(self, name: str, cases: Sequence[Case]) -> tuple[list[Diagnosis], str]:
        """A verdict for each case by the policy `name`, or by the built-in one.

        Returns:
            The verdicts, and why some of them are the built-in's although another was asked for.
        """
        built_in = [diagnose(*case) for case in cases]
        if not name or not cases:
            return built_in, ""
        error, retry_at = self._broken.get(name, ("", 0.0))
        if error and self._clock() < retry_at:
            return built_in, error
        try:
            answers = self._answers(name, cases)
        except Exception as wrong:  # whatever a stranger's module raises, the patrol goes on
            return built_in, self._complain(name, f"{type(wrong).__name__}: {wrong}", AGAIN_S)
        verdicts = [answer or default for (answer, _), default in zip(answers, built_in, strict=True)]
        complaint = next((complaint for _, complaint in answers if complaint), "")
        if complaint:
            return verdicts, self._complain(name, complaint, 0.0)
        self._broken.pop(name, None)
        return verdicts, ""

    def _answers(self, name: str, cases: Sequence[Case]) -> list[Answer]:
        """What the policy says, from a thread that is left behind when it hangs.

        Raises:
            TimeoutError: it does not answer; and what loading it raises.
        """
        hanging = self._asking.get(name)
        if hanging is not None and hanging.is_alive():
            raise TimeoutError("an earlier question is still without an answer")
        own = self._loaded[name] = self._loaded.get(name) or load(name)
        answers: list[Answer] = []
        asking = threading.Thread(target=lambda: answers.extend(_answer(own, case) for case in cases), daemon=True)
        self._asking[name] = asking
        asking.start()
        asking.join(ANSWER_S)
        if len(answers) < len(cases):
            raise TimeoutError(f"no answer within {ANSWER_S:.0f} s")
        return answers

    def _complain(self, name: str, what: str, pause_s: float) -> str:
        text = f"recovery.policy {name!r}: {what}; the built-in diagnosis holds"
        if self._broken.get(name, ("", 0.0))[0] != text:
            log.error("%s", text)
        self._broken[name] = (text, self._clock() + pause_s)
        return text


def load(name: str) -> Diagnose:
    """The function that `name` stands for.

    Raises:
        LookupError: there is no such entry point, or it is no function; and whatever its import raises.
    """
    importlib.invalidate_caches()
    module, colon, attribute = name.partition(":")
    if colon:
        found: Any = getattr(importlib.import_module(module), attribute, None)
    else:
        found = next((one.load() for one in entry_points(group=GROUP, name=name)), None)
    if not callable(found):
        raise LookupError(f"there is no function {attribute!r} in {module}" if colon else f"no entry point of {GROUP}")
    return found  # type: ignore[no-any-return]  # what it answers is checked each time


def _answer(own: Diagnose, case: Case) -> Answer:
    try:
        verdict: object = own(*case)
    except BaseException as wrong:  # a stranger's sys.exit() too; this thread is his alone
        return None, f"{type(wrong).__name__}: {wrong}"
    if not isinstance(verdict, Diagnosis):
        return None, f"answered {type(verdict).__name__}, not Diagnosis"
    refused = objection(case.sighting, verdict)
    return (None, f"said {refused}") if refused else (verdict, "")
