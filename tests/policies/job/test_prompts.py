"""Prompts of agent programs, as their panes show them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.job.prompts import known_prompt

WAITING = {
    "claude asks to run a command": (
        "menu",
        """
● Bash(pytest -q)
  ⎿  Running…

╭──────────────────────────────────────────────────────────────────────────╮
│ Bash command                                                             │
│                                                                          │
│   rm -r build                                                            │
│   Remove the build folder                                                │
│                                                                          │
│ Do you want to proceed?                                                  │
│ ❯ 1. Yes                                                                 │
│   2. Yes, and don't ask again for rm commands in /srv/town/shop          │
│   3. No, and tell Claude what to do differently (esc)                    │
╰──────────────────────────────────────────────────────────────────────────╯
""",
    ),
    "claude asks without a box, cursor moved, hints below": (
        "menu",
        """
 Do you want to make this edit to till.py?
   1. Yes
   2.Yes, allow all edits during this session (shift+tab)
 ❯ 3. No

 Esc to cancel · Tab to amend
""",
    ),
    "claude asks whether it may trust the folder": (
        "menu",
        """
 Do you trust the files in this folder?

 /srv/town/shop/toast

 ❯ 1. Yes, proceed
   2. No, exit

 Enter to confirm · Esc to exit
""",
    ),
    "claude asks a question of its own": (
        "menu",
        """
Which database shall the migration target?

❯ Postgres
  SQLite
  Something else

Enter to select · ↑/↓ to navigate · Esc to cancel
""",
    ),
    "claude waits to be signed in": (
        "login",
        """
 Browser didn't open? Use the url below to sign in:

https://claude.ai/oauth/authorize?code=true&client_id=9d1c250a

 Paste code here if prompted >
""",
    ),
    "claude waits for instructions": (
        "idle",
        """
● I have looked at the till and found two problems.

────────────────────────────────────────────────────────────
❯
────────────────────────────────────────────────────────────
  ? for shortcuts
""",
    ),
    "an older claude waits for instructions": (
        "idle",
        """
╭──────────────────────────────────────────────────────────╮
│ > Try "refactor till.py"                                 │
╰──────────────────────────────────────────────────────────╯
  ? for shortcuts                               Bypassing Permissions
""",
    ),
    "codex asks to run a command": (
        "menu",
        """
  Would you like to run the following command?

  Reason: May I run the full test suite?

  $ pnpm exec vitest run

› 1. Yes, proceed (y)
  2. Yes, and don't ask again for commands that start with `pnpm exec vitest` (p)
  3. No, and tell Codex what to do differently (esc)

  Press enter to confirm or esc to cancel
""",
    ),
    "codex asks for an approval that scrolled its menu away": (
        "confirmation",
        "  Allow Codex to apply the proposed patch?\n\n  Press enter to confirm or esc to cancel\n",
    ),
    "codex waits for instructions": ("idle", "• Done.\n\n› Ask Codex to do anything\n\n  ? for shortcuts\n"),
    "gemini asks to run a command": (
        "menu",
        """
╭────────────────────────────────────────────────────────────╮
│ ?  Shell npm install lodash                                │
│                                                            │
│ Allow execution of: 'npm'?                                 │
│                                                            │
│ ● 1. Yes, allow once                                       │
│   2. Yes, allow always ...                                 │
│   3. No, suggest changes (esc)                             │
╰────────────────────────────────────────────────────────────╯
""",
    ),
    "gemini says that it waits": ("confirmation", "⠏ Waiting for user confirmation...\n"),
    "gemini waits for instructions": (
        "idle",
        "╭────────────────────╮\n│ >   Type your message or @path/to/file │\n╰─────╯\n~/shop  gemini-2.5\n",
    ),
    "gemini asks how to sign in": (
        "menu",
        """
│ How would you like to authenticate for this project? │
│                                                      │
│ ● 1. Login with Google                               │
│   2. Use Gemini API Key                              │
│   3. Vertex AI                                       │
│                                                      │
│ (Use Enter to select)                                │
""",
    ),
    "aider asks whether to add a file": (
        "aider_question",
        "lib/till.py\nAdd file to the chat? (Y)es/(N)o/(D)on't ask again [Yes]: ",
    ),
    "aider asks about several files": (
        "aider_question",
        "Add file to the chat? (Y)es/(N)o/(A)ll/(S)kip all/(D)on't ask again [Yes]:",
    ),
    "aider asks whether to run a command": ("aider_question", "pytest -q\nRun shell command? (Y)es/(N)o [Yes]:"),
    "aider waits for instructions": ("idle", "Tokens: 2.2k sent, 900 received.\n───────────\narchitect> \n"),
    "aider in its plain mode": ("idle", "Added till.py to the chat.\n> "),
    "cursor asks to run a command": (
        "confirmation",
        "  Run this command?\n  $ npm test\n   → Run (once) (y) (enter)\n     Skip (esc or n)\n",
    ),
    "apt asks": ("yes_no", "After this operation, 12 MB will be used.\nDo you want to continue? [Y/n] "),
    "a script asks": ("yes_no", "Overwrite till.py? (y/N)"),
    "a script asks in words": ("yes_no", "Drop the table? [yes/no]: "),
    "a hunk of git add -p": ("yes_no", "(1/3) Stage this hunk [y,n,q,a,d,e,?]? [y/n]"),
    "npx asks": ("yes_no", "Need to install the following packages:\n  create-vite@5.2\nOk to proceed? (y)"),
    "sudo asks": ("password", "[sudo] password for ada:"),
    "ssh asks for a passphrase": ("password", "Enter passphrase for key '/home/ada/.ssh/id_ed25519': "),
    "git asks for a user": ("username", "Username for 'https://git.example.org': "),
    "git asks for a password": ("password", "Password for 'https://ada@git.example.org': "),
    "a second factor": ("password", "Verification code: "),
    "an unknown host key": (
        "host_key",
        "ED25519 key fingerprint is SHA256:Zx.\nAre you sure you want to continue connecting (yes/no/[fingerprint])? ",
    ),
    "an installer": ("press_key", "Installed.\nPress any key to continue . . ."),
    "an error box": ("press_key", "3 errors\nPress ENTER to continue"),
    "less": ("pager", "diff --git a/till.py b/till.py\n+x\n:"),
    "the end in less": ("pager", "+x\n(END)"),
    "more": ("pager", "one\n--More--(12%)"),
    "select in a shell": ("choice", "1) alpha\n2) beta\n#? "),
    "inquirer": ("menu", "? Select a framework (Use arrow keys)\n❯ Vue\n  React\n"),
    "prompts": ("menu", "? Pick a colour › - Use arrow-keys. Return to submit.\n❯   Red\n    Green\n"),
    "a shell": ("shell", "ada@host:~/shop$ "),
}
NOT_WAITING = {
    "an empty pane": "",
    "claude works": "✽ Tempering… (45s · ↑ 1.2k tokens · esc to interrupt)\n\n────\n❯ \n────\n  ? for shortcuts\n",
    "codex works": "• Working (12s • esc to interrupt)\n\n› Ask Codex to do anything\n",
    "gemini works": "⠏ Reading the till (esc to cancel, 34s)\n\n│ > Type your message or @path/to/file │\n",
    "cursor works": "  Running npm test\n  ctrl+c to stop\n",
    "tests run": "tests/test_till.py ........F...                  [ 42%]\n",
    "a question that was answered": "Do you want to continue? [Y/n] y\nUnpacking shop (1.2) ...\n",
    "a menu that was answered": "❯ 1. Yes\n  2. No\n\n● Bash(pytest)\n  ⎿ 12 passed\n● Green.\n● Committed.\n● Done.\n",
    "prose that quotes a prompt": 'The script asks "Overwrite? [y/n]" and then goes on.\nNext I look at the log.\n',
    "prose about passwords": "The password: field is validated on submit.\n",
    "a numbered plan": "Plan:\n1. Yes, rename the column first\n2. Then migrate\n",
    "a quoted list": "> 1. first\n> 2. second\n> 3. third\n",
    "a spinner": "⠋ thinking\n",
    "a rhetorical question": "Do you want to know more? See the docs.\nDone.\n",
}


@pytest.mark.parametrize(("name", "tail"), WAITING.values(), ids=WAITING)
def test_a_pane_that_waits_for_somebody_is_recognised(name: str, tail: str) -> None:
    assert known_prompt(tail) == name


@pytest.mark.parametrize("tail", NOT_WAITING.values(), ids=NOT_WAITING)
def test_a_pane_that_works_or_only_talks_is_not_taken_for_a_prompt(tail: str) -> None:
    assert known_prompt(tail) == ""


@pytest.mark.parametrize("tail", [tail for _, tail in WAITING.values()], ids=WAITING)
def test_a_prompt_that_output_has_pushed_up_is_over(tail: str) -> None:
    assert known_prompt(tail + "\n" + "\n".join(f"tests/test_{n}.py ....." for n in range(15))) == ""


@given(st.text(max_size=3000))
def test_any_text_has_an_answer(text: str) -> None:
    assert isinstance(known_prompt(text), str)
