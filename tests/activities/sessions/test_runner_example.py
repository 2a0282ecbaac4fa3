"""The script for Docker in docs/security.md, with bubblewrap in Docker's place: it takes the same options."""

from __future__ import annotations

import sys
from pathlib import Path

from models.settings import SandboxSettings
from tests.activities.sessions.desk import WORKS, Desk, eventually

PAGE = Path(__file__).parents[3] / "docs" / "security.md"
DOCKER = """
import os, sys
assert sys.argv[1] == "run"
words, own, argv = sys.argv[2:], {}, ["bwrap", "--unshare-pid", "--die-with-parent", "--clearenv", "--proc", "/proc"]
argv += [w for path in ("/usr", "/etc", "/bin", "/lib", "/lib64") for w in ("--ro-bind-try", path, path)]
argv += ["--dev", "/dev", "--tmpfs", "/tmp"]
binds, network = {}, ""
while words[0].startswith("-"):
    option = words.pop(0)
    if option in ("--rm", "-i", "--init", "-t"):
        continue
    value = words.pop(0)
    if option == "-v":
        source, target, *mode = value.split(":")
        assert source == target and os.path.exists(source), value
        binds[target] = "--ro-bind" if mode == ["ro"] else "--bind"
    elif option == "--tmpfs":
        binds[value.partition(":")[0]] = "--tmpfs"
    elif option == "-e":
        argv += ["--setenv", value, os.environ[value]]
    elif option == "-w":
        folder = value
    elif option == "--network":
        network = value
    else:
        assert (option, value) in {("--memory", "1000000000"), ("--pids-limit", "99"),
                                   ("--user", f"{os.getuid()}:{os.getgid()}")}, option
assert words.pop(0) == "my-image"
for path, how in sorted(binds.items()):
    argv += [how, path] if how == "--tmpfs" else [how, path, path]
argv += {"none": ["--unshare-net"], "bridge": []}[network] + ["--chdir", folder, "--"]
os.execvp("bwrap", argv + words)
"""


def test_an_agent_works_and_hands_in_by_it(confined: Desk, tmp_path: Path) -> None:
    script = PAGE.read_text().partition("```sh\n")[2].partition("```")[0]
    runner, docker = tmp_path / "runner", tmp_path / "programs" / "docker"
    docker.parent.mkdir()
    for path, text in {runner: script, docker: f"#!{sys.executable}\n{DOCKER}"}.items():
        path.write_text(text)
        path.chmod(0o755)
    confined.environment["PATH"] = f"{docker.parent}:{confined.environment['PATH']}"
    command = f"{runner} my-image {{folder}} {{network}} {{memory_bytes}} {{processes}}"
    confined.sandbox = SandboxSettings(command=command, memory_bytes=10**9, processes=99)
    secret = confined.paths.root / "secrets.toml"
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_text("planted")
    looks = f"cat {secret}; echo links: $(tail -n +3 /proc/net/dev | cut -d: -f1); test -t 0 && echo a terminal"
    confined.start(f"{looks}; {WORKS}", network="none")
    eventually(lambda: (confined.folder() / "done.json").exists() or ((pane := confined.pane()) and pane.dead))
    shown = confined.shown("finished")
    assert "planted" not in shown
    assert "links: lo\na terminal\n" in shown
    assert confined.take().accepted
