"""Secrets of forty kinds that nobody issued: made here from their shapes, so that no scanner stumbles over a file."""

from __future__ import annotations

import base64
import random
import string
from typing import NamedTuple

_ALNUM = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"


class Planted(NamedTuple):
    kind: str
    line: str
    """as it is printed, in one or several lines"""
    hidden: tuple[str, ...]
    """what must be found nowhere"""


def planted(seed: int) -> list[Planted]:
    """One secret of each kind; another seed makes others."""
    chance = random.Random(seed)

    def made(start: str, length: int, alphabet: str = _ALNUM) -> str:
        return start + "a1" + "".join(chance.choices(alphabet, k=length - 2))

    def alone(kind: str, secret: str, line: str = "got {} here") -> Planted:
        return Planted(kind, line.format(secret), (secret,))

    rows = [base64.b64encode(chance.randbytes(48)).decode() for _ in range(6)]
    block = "\n".join(rows)
    jwt = ".".join(base64.urlsafe_b64encode(text).decode().rstrip("=") for text in (
        b'{"alg":"HS256"}', b'{"sub":"%d"}' % chance.getrandbits(64), chance.randbytes(32)))  # fmt: skip
    return [
        alone("aws id", "AKIA" + "".join(chance.choices(string.ascii_uppercase + "234567", k=16))),
        alone("aws secret", made("", 40), "AWS_SECRET_ACCESS_KEY={}"),
        alone("github", made("gh" + "p_", 36)),
        alone("github app", made("gh" + "s_", 36)),
        alone("github fine", made("github_" + "pat_", 82)),
        alone("gitlab", made("gl" + "pat-", 20)),
        alone("slack bot", made("xo" + "xb-", 40, string.digits)),
        alone("slack hook", made("", 24), "https://hooks.slack.com/services/T0AAAAAAA/B0BBBBBBB/{}"),
        alone("discord hook", made("", 68), "https://discord.com/api/webhooks/123456789012345678/{}"),
        alone("google", made("AI" + "za", 35)),
        alone("google oauth", made("GOC" + "SPX-", 28)),
        alone("anthropic", made("sk-" + "ant-api03-", 90)),
        alone("openai", made("sk-" + "proj-", 100)),
        alone("stripe", made("sk_" + "live_", 24)),
        alone("npm", made("np" + "m_", 36)),
        alone("pypi", made("pypi-" + "AgE", 150)),
        alone("sendgrid", made("S" + "G.", 22) + made(".", 43)),
        alone("hugging face", "h" + "f_" + "".join(chance.choices(string.ascii_letters, k=34))),
        alone("digitalocean", "dop_" + "v1_" + "".join(chance.choices(_HEX, k=64))),
        alone("azure", made("", 86) + "==", "AccountKey={};"),
        alone("age", "AGE-SECRET-" + "KEY-1" + "".join(chance.choices(string.ascii_uppercase + string.digits, k=58))),
        alone("vault", made("hv" + "s.", 24)),
        alone("docker", made("dckr_" + "pat_", 27)),
        alone("databricks", "da" + "pi" + "".join(chance.choices(_HEX, k=32))),
        alone("linear", made("lin_" + "api_", 40)),
        alone("notion", made("nt" + "n_", 43)),
        alone("grafana", made("gl" + "sa_", 32) + "_" + "".join(chance.choices(_HEX, k=8))),
        alone("rubygems", "ruby" + "gems_" + "".join(chance.choices(_HEX, k=48))),
        alone("shopify", "shp" + "at_" + "".join(chance.choices(_HEX, k=32))),
        alone("square", made("sq0" + "atp-", 22)),
        alone("tailscale", made("ts" + "key-auth-", 12) + made("-", 32)),
        alone("telegram", made("A" + "A", 33), "bot 1234567890:{}"),
        alone("twilio", "S" + "K" + "".join(chance.choices(_HEX, k=32))),
        alone("groq", made("gs" + "k_", 52)),
        alone("attempt", "gt" + "at_" + "".join(chance.choices(_HEX, k=40))),
        alone("jwt", jwt),
        alone("bearer", made("", 40), "Authorization: Bearer {}"),
        alone("curl bearer", made("", 32), 'curl -H "authorization: token {}" x'),
        alone("url", made("", 14), "postgres://app:{}@db7.shop.internal/till"),
        alone("password", made("", 12), "DB_PASSWORD={}"),
        alone("option", made("", 24), "deploy --api-key {} now"),
        alone("json", made("", 32), '{{"client_secret": "{}", "a": 1}}'),
        alone("coloured", made("gh" + "p_", 36), "\x1b[31m{}\x1b[0m"),
        Planted("rsa", f"-----BEGIN RSA PRIVATE KEY-----\n{block}\n-----END RSA PRIVATE KEY-----", tuple(rows)),
        Planted("headless key", "\n".join([*reversed(rows), "-----END OPENSSH PRIVATE KEY-----"]), tuple(rows)),
    ]  # fmt: skip
