"""What git's words mean, with words that git 2.39 and hosting services really say."""

from __future__ import annotations

import pytest

from models import names
from models.errors import ErrorCode, GtError
from models.git_errors import REMOTE_WORDS, classify, plain_words, remote_words

AWAY = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights"


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        ("fatal: unable to access 'https://x/': Could not resolve host: x", ErrorCode.REMOTE_UNREACHABLE),
        (f"ssh: connect to host x port 22: Connection refused\n{AWAY}", ErrorCode.REMOTE_UNREACHABLE),
        ("fatal: the remote end hung up unexpectedly", ErrorCode.REMOTE_UNREACHABLE),
        ('Timeout: the command "git fetch" did not complete in 540 secs.', ErrorCode.REMOTE_UNREACHABLE),
        (f"fatal: '/tmp/x' does not appear to be a git repository\n{AWAY}", ErrorCode.NOT_A_REPOSITORY),
        ("fatal: not a git repository (or any of the parent directories): .git", ErrorCode.NOT_A_REPOSITORY),
        (f"ERROR: Repository not found.\n{AWAY}", ErrorCode.NOT_A_REPOSITORY),
        ("fatal: repository 'https://x/y.git/' not found", ErrorCode.NOT_A_REPOSITORY),
        ("fatal: detected dubious ownership in repository at '/x'", ErrorCode.NOT_A_REPOSITORY),
        (f"fatal: invalid gitfile format: /tmp/x\n{AWAY}", ErrorCode.NOT_A_REPOSITORY),
        ("fatal: couldn't find remote ref refs/heads/x", ErrorCode.NO_SUCH_BRANCH),
        ("error: src refspec x does not match any", ErrorCode.NO_SUCH_BRANCH),
        (f"git@x: Permission denied (publickey).\n{AWAY}", ErrorCode.REMOTE_REFUSED),
        (
            "remote: Invalid username or password.\nfatal: Authentication failed for 'https://x'",
            ErrorCode.REMOTE_REFUSED,
        ),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", ErrorCode.REMOTE_REFUSED),
        (" ! [remote rejected] main -> main (pre-receive hook declined)", ErrorCode.REMOTE_REFUSED),
        ("remote: error: GH006: Protected branch update failed for refs/heads/main.", ErrorCode.REMOTE_REFUSED),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", ErrorCode.REMOTE_REFUSED),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 502", ErrorCode.REMOTE_UNREACHABLE),
        ("fatal: write error: No space left on device", ErrorCode.DISK_FULL),
        ("remote: fatal: sha1 file write error: No space left on device\n ! [remote rejected]", ErrorCode.DISK_FULL),
        ("fatal: Unable to create '/x/index.lock': File exists.", ErrorCode.GIT_FAILED),
        ("", ErrorCode.GIT_FAILED),
    ],
)
def test_git_says(stderr: str, code: ErrorCode) -> None:
    assert classify(stderr, 128) is code


def test_a_killed_git_is_tried_again_whatever_it_said() -> None:
    assert classify("fatal: not a git repository", -9) is ErrorCode.GIT_FAILED


def test_a_command_that_was_ended_because_the_remote_did_not_answer_means_unreachable() -> None:
    stderr = 'Timeout: the command "git fetch" did not complete in 540 secs.'
    assert classify(stderr, -9) is ErrorCode.REMOTE_UNREACHABLE


def test_words_for_people_hold_no_credentials_no_controls_and_no_hints() -> None:
    words = plain_words("fatal: 'https://me:secret@x/y' gone\r\nhint: try\n\x1b[31mred")
    assert words == "fatal: 'https://x/y' gone; [31mred"
    assert plain_words("x" * 2000 + "reason").endswith("reason")
    assert len(plain_words("x" * 2000)) == 600


def test_what_a_remote_says_that_refuses_is_whole_and_line_by_line() -> None:
    rules = [f"remote: - rule {number}: every commit is signed by a key of the company" for number in range(40)]
    said = ["remote: ", *rules, "To https://me:secret@x/y", " ! [remote rejected] a -> b (hook declined)"]
    words = remote_words("\r\n".join(said))
    assert words.splitlines() == [*rules, "To https://x/y", "! [remote rejected] a -> b (hook declined)"]
    assert len(words) > 2_000
    assert len(remote_words("x" * 10_000)) == REMOTE_WORDS


def test_paths_and_urls_are_remotes() -> None:
    for remote in (
        *("/srv/git/shop.git", "file:///srv/shop.git", "git@github.com:me/shop.git", "ssh://git@host:22/shop"),
        *("https://github.com/me/shop.git", "https://me@host/shop.git", "/a path/with spaces.git", "host:shop"),
    ):
        assert names.valid_remote(remote) == remote


def test_what_would_run_commands_or_leak_is_no_remote() -> None:
    for remote in (
        *("", "-oProxyCommand=x", "--upload-pack=x", "ext::sh -c evil", "fd::3", "transport-helper::x"),
        *("https://me:secret@host/x", "a\nb", "javascript://x", "ext://x", "x" * 1001),
    ):
        with pytest.raises(GtError) as caught:
            names.valid_remote(remote)
        assert caught.value.code is ErrorCode.INVALID_VALUE, remote
        assert "secret" not in caught.value.message
