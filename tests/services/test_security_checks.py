"""What `gt doctor --security` says of a town that is not as it should be."""

from __future__ import annotations

import contextlib
import http.server
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.store import Ledger
from models.doctor import FindingState
from models.errors import GtError
from models.settings import SandboxSettings
from models.town import Listen, StoreEngine, TemporalListening
from policies.security.sandbox import NotPossible
from services import sandbox, security_checks
from services.atomic_files import write_whole
from services.init_town import create_town
from services.security_checks import examine_security
from services.town import Town, load_town
from tests.sinks import serving

OK, WARN, MEND = FindingState.OK, FindingState.WARN, FindingState.MEND


@pytest.fixture
def founded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Town:
    """A town that was never up, on a machine of one person."""
    monkeypatch.setattr(security_checks, "has_other_people", lambda: False)
    return create_town(tmp_path / "mill", store="embedded").town


def states(town: Town) -> dict[str, FindingState]:
    return {finding.name: finding.state for finding in examine_security(town)}


def test_a_new_town_is_closed_and_says_what_does_not_run(founded: Town) -> None:
    found = {finding.name: finding for finding in examine_security(founded)}
    assert states(founded) == {
        **{"files": OK, "secrets": OK, "temporal_listen": OK, "sandbox": OK, "ledger_user": OK},
        **{"web_ui": WARN, "http_api": WARN, "worker_memory": WARN},
    }
    assert found["web_ui"].mend == "gt up"


def open_the_root(town: Town) -> None:
    town.paths.root.chmod(0o755)


def open_the_channels(town: Town) -> None:
    town.paths.channels.touch(mode=0o644)
    town.paths.channels.chmod(0o640)


def link_the_secrets(town: Town) -> None:
    town.paths.secrets.symlink_to("/dev/null")


def ask_for_the_socket(town: Town) -> None:
    _change(town, 'listen = "auto"', f'listen = "{Listen.SOCKET}"')


def lack_a_network(town: Town) -> None:
    write_whole(town.paths.temporal_listening, TemporalListening(lacks="others have accounts").model_dump_json())


def use_a_far_ledger(town: Town) -> None:
    far = f'engine = "{StoreEngine.EXTERNAL}"\nurl = "mysql+pymysql://gt@db.example:3306/gastown"'
    _change(town, 'engine = "embedded"', far)


def _change(town: Town, before: str, after: str) -> None:
    text = town.paths.config.read_text()
    assert before in text
    town.paths.config.write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (open_the_root, {"files": MEND}),
        (open_the_channels, {"files": MEND, "secrets": MEND}),
        (link_the_secrets, {"secrets": MEND}),
        (ask_for_the_socket, {"temporal_listen": MEND}),
        (lack_a_network, {"temporal_listen": WARN}),
        (use_a_far_ledger, {"ledger_user": WARN}),
    ],
)
def test_what_is_open_is_told(founded: Town, spoil: Callable[[Town], None], expected: dict[str, FindingState]) -> None:
    before = states(founded)
    spoil(founded)
    after = states(load_town(founded.root))
    assert {name: state for name, state in after.items() if state != before[name]} == expected


@pytest.mark.parametrize(
    ("mode", "state", "words"),
    [
        ("auto", WARN, "NO SANDBOX: agents and gates can do what this user can: bubblewrap is not installed"),
        ("bwrap", MEND, "NO SANDBOX, so no agent and no gate starts: bubblewrap is not installed"),
        ("none", WARN, "NO SANDBOX: agents and gates can do what this user can: sandbox.mode is none"),
    ],
)
def test_a_sandbox_that_is_missing_is_told_with_its_reason_and_mend(
    founded: Town, monkeypatch: pytest.MonkeyPatch, mode: str, state: FindingState, words: str
) -> None:
    monkeypatch.setattr(sandbox, "bwrap_problem", lambda: NotPossible("bubblewrap is not installed", "install it"))
    with contextlib.closing(Ledger.open(founded.ledger_url())) as ledger:
        ledger.set_setting("town", "sandbox.mode", mode)
    found = security_checks.check_sandbox(founded)
    assert (found.name, found.state) == ("sandbox", state)
    assert found.found.startswith(words)
    assert found.mend == ("gt config sandbox.mode auto" if mode == "none" else "install it")


def test_the_network_of_agents_is_told_and_takes_a_sandbox(founded: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    assert security_checks.check_sandbox(founded).found.endswith("; network of agents: the host's own")
    with contextlib.closing(Ledger.open(founded.ledger_url())) as ledger:
        ledger.set_setting("town", "agent.network", "api.anthropic.com *.github.com:443")
    found = security_checks.check_sandbox(founded)
    assert found.state is OK
    assert found.found.endswith("; network of agents: api.anthropic.com, *.github.com:443 alone")
    monkeypatch.setattr(sandbox, "bwrap_problem", lambda: NotPossible("bubblewrap is not installed", "install it"))
    found = security_checks.check_sandbox(founded)
    assert found.state is MEND
    assert found.found.endswith("alone, so no agent starts")
    assert found.mend == "install it; or gt config agent.network full"


def test_which_limits_apply_is_told_and_one_that_cannot_be_kept(founded: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "; limits: prlimit for each process;" in security_checks.check_sandbox(founded).found
    with contextlib.closing(Ledger.open(founded.ledger_url())) as ledger:
        ledger.set_setting("town", "sandbox.cpu_percent", "150")
    monkeypatch.setattr(sandbox, "_CGROUPS", "/nowhere")
    found = security_checks.check_sandbox(founded)
    assert found.state is MEND
    assert "no agent and no gate starts: this machine has no cgroup v2" in found.found
    with pytest.raises(GtError, match="cpu_percent is set, and this machine has no cgroup v2"):
        sandbox.required(SandboxSettings(cpu_percent=150))


def test_on_a_machine_of_several_people_loopback_is_told(founded: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security_checks, "has_other_people", lambda: True)
    assert states(founded)["temporal_listen"] is WARN


@pytest.fixture
def anybodys_page() -> Iterator[int]:
    """The port of a server that answers to any Host."""
    with serving(Answers) as port:
        yield port


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_web_ui_that_answers_to_any_host_is_to_be_mended(founded: Town, anybodys_page: int) -> None:
    temporal = founded.file.temporal.model_copy(update={"ui_port": anybodys_page})
    town = replace(founded, file=founded.file.model_copy(update={"temporal": temporal}))
    assert states(town)["web_ui"] is MEND
