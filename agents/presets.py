"""Agent programs by name: the full command line that each is started with.

Every line runs to its end without asking, is handed the task file and lets the agent edit and
run commands: a polecat's worktree is its sandbox. A program that ends without `gt done` is taken
as done when it exits 0 with a clean tree and commits (`polecat.auto_done`). Any other string is
a command line as it stands.

An agent that runs `gt heartbeat` regularly may declare it by starting its command line with
`GT_HEARTBEAT=1`: then its silence counts from its start on, and not only after its first beat.
None of the presets does, because none of these programs beats by itself.
"""

from __future__ import annotations

from typing import Final

from models.base import Frozen

_TASK = '"$GT_TASK_FILE"'
_PROMPT = f'"$(cat {_TASK})"'


class Preset(Frozen):
    command: str
    install: str
    """where its program comes from"""


PRESETS: Final[dict[str, Preset]] = {
    # print mode; the prompt is read from standard input, so its length has no limit; as root claude takes the flag only
    # where IS_SANDBOX says that it is in a container
    "claude": Preset(
        command=f"IS_SANDBOX=1 claude -p --dangerously-skip-permissions < {_TASK}",
        install="npm install -g @anthropic-ai/claude-code",
    ),
    # `exec` is codex's non-interactive mode; `-` reads the prompt from standard input; a login shell would reset PATH,
    # and lose `gt`
    "codex": Preset(
        command=f"codex exec --dangerously-bypass-approvals-and-sandbox -c allow_login_shell=false - < {_TASK}",
        install="npm install -g @openai/codex",
    ),
    # without a terminal on standard input gemini runs once; in a folder that it does not trust it ends with exit 55
    "gemini": Preset(
        command=f"gemini --skip-trust --approval-mode=yolo < {_TASK}",
        install="npm install -g @google/gemini-cli",
    ),
    # aider commits by itself but knows no `gt done`; its history files must not dirty the worktree
    "aider": Preset(
        command=(
            f"aider --yes-always --no-check-update --no-gitignore --map-tokens 0 "
            f'--chat-history-file "${{GT_TASK_FILE%/*}}/aider.chat.md" '
            f'--input-history-file "${{GT_TASK_FILE%/*}}/aider.input" '
            f"--message-file {_TASK} && gt done"
        ),
        install="python -m pip install aider-install && aider-install",
    ),
    # `run` answers one message and ends; --auto approves what is not denied
    "opencode": Preset(
        command=f"opencode run --auto {_PROMPT}",
        install="npm install -g opencode-ai",
    ),
    # -x executes the prompt on standard input and ends
    "amp": Preset(
        command=f"amp --dangerously-allow-all -x < {_TASK}",
        install="npm install -g @sourcegraph/amp",
    ),
    # -p prints and ends; --force lets it run commands, --trust does without the question about the folder
    "cursor": Preset(
        command=f"cursor-agent -p --force --trust {_PROMPT}",
        install="see cursor.com/cli",
    ),
}


def command_line(agent: str) -> str:
    """The command line that `sh -c` runs for `agent`: a preset's, or the string itself."""
    preset = PRESETS.get(agent.strip())
    return preset.command if preset else agent


def declares_heartbeat(agent: str) -> bool:
    """Whether the command line of `agent` says, by an assignment in front, that the agent beats."""
    for word in command_line(agent).split():
        if not _is_assignment(word):
            return False
        if word in _DECLARATIONS:
            return True
    return False


def install_hint(agent: str) -> str:
    """What to do when the program of `agent` is missing."""
    preset = PRESETS.get(agent.strip())
    if preset:
        return preset.install
    return "check the agent's command line: gt rig list -o json"


def program(command: str) -> str:
    """The first word of a command line when it plainly names a program, else "".

    Only a plain word can be looked up before the start; whatever needs a shell to be understood
    (quotes, expansions, assignments) is left to the shell, which says in the pane what it misses.
    """
    words = command.split()
    while words and _is_assignment(words[0]):
        words.pop(0)
    if not words or not set(words[0]) <= _PLAIN:
        return ""
    return words[0]


_DECLARATIONS: Final = frozenset({"GT_HEARTBEAT=1", "GT_HEARTBEAT=yes", "GT_HEARTBEAT=true"})
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/+@:,-")


def _is_assignment(word: str) -> bool:
    name, equals, value = word.partition("=")
    return bool(equals) and name.isidentifier() and set(value) <= _PLAIN
