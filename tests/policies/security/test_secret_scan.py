"""What the town keeps from a remote, and what it must not take for a secret."""

from __future__ import annotations

import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.security.secret_scan import SEARCHED_BYTES, secret_in, secret_in_name

LETTERS = string.ascii_letters + string.digits


def made(prefix: str, length: int, alphabet: str = LETTERS, seed: int = 1) -> str:
    """A key that nobody issued: put together here, so that no scanner stumbles over this file."""
    return prefix + "".join(random.Random(seed).choices(alphabet, k=length))


SECRETS = {
    "an AWS access key": "id = " + made("AKIA", 16, string.ascii_uppercase + "234567"),
    "a GitHub token": made("ghp_", 36),
    "a GitLab token": made("glpat-", 20),
    "a Slack token": made("xoxb-", 30, string.digits + "-"),
    "a Google API key": made("AIza", 35),
    "an Anthropic key": made("sk-ant-api03-", 60),
    "an OpenAI key": made("sk-proj-", 60),
    "a Stripe key": made("sk_live_", 24),
    "an npm token": made("npm_", 36),
    "a PyPI token": made("pypi-AgE", 60),
    "a SendGrid key": made("SG.", 22) + made(".", 43),
    "a Hugging Face token": made("hf_", 34, string.ascii_letters),
    "an Azure storage key": made("AccountKey=", 86) + "==",
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----\n" + made("", 64),
    "a password in a URL": "postgres://app:" + made("", 14) + "@db7.shop.internal/till",
    "a random value under a secret's name": f'API_KEY = "{made("", 32)}"',
}

HARMLESS = [
    "",
    "print('hello')",
    "password = 'hunter2'",
    "API_KEY = os.environ['API_KEY']",
    'api_key: "your-api-key-goes-right-here"',
    'token = "${{ secrets.GITHUB_TOKEN_OF_THE_ACTION }}"',
    'SECRET_NAME = "projects/shop/secrets/till-password"',
    "key = AKIA" + "IOSFODNN7" + "EXAMPLE",
    "postgres://postgres:postgres@localhost:5432/test",
    "https://user:password@example.com/x",
    "redis://:@127.0.0.1",
    "-----BEGIN PUBLIC KEY-----\n" + "A" * 64,
    "-----BEGIN CERTIFICATE-----\n" + "A" * 64,
    "the header reads BEGIN PRIVATE KEY",
    "hf_" + "a" * 10,
    "sha256:" + "0123456789abcdef" * 4,
    'integrity = "sha512-' + made("", 86) + '=="',
    "def token_bucket(secret_sauce: str) -> None: ...",
    "secret = 'aaaaaaaaaaaaaaaaaaaaaaaaaaa1'",
]


@pytest.mark.parametrize("what", SECRETS)
def test_a_key_is_found_anywhere_in_a_file(what: str) -> None:
    for text in (SECRETS[what], f"first line\n{SECRETS[what]}\nlast line\n"):
        assert secret_in(text.encode()) == what


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_a_bit_like_a_secret_leaves_the_host(text: str) -> None:
    assert secret_in(text.encode()) == ""


@pytest.mark.parametrize(
    "path", [".env", "deploy/.env.production", "prod.env", "keys/id_rsa", "a/b.P12", "home/.netrc", ".git-credentials"]
)
def test_a_file_of_a_secrets_name_stays_whatever_it_holds(path: str) -> None:
    assert secret_in_name(path)


@pytest.mark.parametrize(
    "path", ["env.py", ".env.example", "id_rsa.pub", "netrc.md", "src/.envrc.sample", "keystore.go"]
)
def test_other_names_tell_nothing(path: str) -> None:
    assert secret_in_name(path) == ""


@given(st.binary(max_size=2_000))
def test_whatever_a_file_holds_there_is_an_answer(content: bytes) -> None:
    assert isinstance(secret_in(content), str)


@given(st.sampled_from(sorted(SECRETS)), st.text(max_size=50), st.text(max_size=50))
def test_text_around_a_key_does_not_hide_it(what: str, before: str, after: str) -> None:
    assert secret_in(f"{before}\n{SECRETS[what]}\n{after}".encode("utf-8", "surrogatepass"))


@given(st.integers(min_value=127_900, max_value=129_100))
def test_a_key_across_two_pieces_is_found(offset: int) -> None:
    assert secret_in(b" " * offset + SECRETS["a GitHub token"].encode())


def test_only_the_beginning_of_an_enormous_file_is_searched() -> None:
    late = b"x" * SEARCHED_BYTES + SECRETS["a GitHub token"].encode()
    assert secret_in(late) == ""


@pytest.mark.parametrize("line", [b"key: value\n", b"a://b:c", b"token = 'aaaa", b"\x00\xff" * 4, b"secret_" * 3])
def test_five_megabytes_of_anything_are_searched_in_a_moment(line: bytes) -> None:
    content = (line * (SEARCHED_BYTES // len(line) + 1))[:SEARCHED_BYTES]
    begun = time.process_time()
    secret_in(content)
    assert time.process_time() - begun < 60, "what is not linear takes hours"
