"""Code that nobody has read, as an agent, as a gate and as another user: it reaches nothing but its own work."""

from __future__ import annotations

from models.doctor import FindingState
from tests.attack.__main__ import line, run, without_effect


def test_no_attack_has_an_effect_and_each_has_one_without_the_protections() -> None:
    report = run("embedded")
    assert report.guarded.effects == frozenset()
    assert without_effect(report) == [], "such an attack proves nothing"
    assert line([report]).endswith("0 effects")
    assert report.files.state is FindingState.OK, report.files.found
    assert len({name for _, name in report.guarded.tried}) >= 76


def test_nor_has_any_on_a_dolt_server_with_agents_that_have_a_list_of_hosts() -> None:
    report = run("server", control=False)
    assert report.guarded.effects == frozenset()
