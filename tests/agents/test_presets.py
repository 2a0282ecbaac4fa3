"""What the presets of claude and codex start lands work, with nothing set but the model's address."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.scripted_model import Run, Say, ScriptedModel, scripted_model
from tests.e2e.living_town import QUICK, LivingTown, wait_until

CODEX = """model = "scripted"
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "SCRIPTED_KEY"
"""


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with scripted_model(Say("nothing to do")) as serving:
        yield serving


@pytest.fixture(scope="module")
def town(programs: Path, model: ScriptedModel) -> Iterator[LivingTown]:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        living = LivingTown(Path(folder))
        living.env |= {
            "PATH": f"{programs}:{living.env['PATH']}",
            "ANTHROPIC_BASE_URL": model.url,
            "ANTHROPIC_API_KEY": "sk-ant-scripted",
            "SCRIPTED_KEY": "scripted",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            # As a worker has it whose `gt up` was run from inside claude.
            "CLAUDECODE": "1",
            "CLAUDE_CODE_CHILD_SESSION": "1",
        }
        settings = Path(living.env["HOME"]) / ".codex" / "config.toml"
        settings.parent.mkdir()
        settings.write_text(CODEX.format(url=model.url))
        try:
            living.init()
            living.up()
            living.configure(QUICK)
            living.add_rig()
            yield living
        finally:
            living.close()


@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_a_task_is_done_and_handed_in_by_the_program_itself(town: LivingTown, model: ScriptedModel, agent: str) -> None:
    bead = town.bead(f"Write {agent}.py")
    work = f"echo 'x = 1' > {agent}.py && git add -A && git commit -qm 'add {agent}.py' && gt done"
    model.script = [Run(work), Say("It is done.")]
    model.asked.clear()
    town.sling(bead, agent)
    town.wait_closed(bead)
    assert len(town.landed(bead)) == 1
    assert f"Write {agent}.py" in str(model.asked[0]), "the task is the prompt"
    assert "your work will be taken" in str(model.asked[-1]), "by `gt done`, and not because it ended with commits"
    wait_until("its session to end", lambda: town.sessions() == [])
