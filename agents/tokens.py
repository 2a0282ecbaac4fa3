"""The token of an attempt: who has it speaks for that attempt, as long as it lasts.

It is made on the host when the attempt begins and stands in its session.json, which only the town's user may read and a
sandbox shows to nobody else. It is in no message, log, history or evidence: what panes show is searched for its shape
(policies/security/secret_scan.py).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Any

from agents.session_folder import TOKEN_KEY


def new_token() -> str:
    """A token for an attempt that begins."""
    return f"gtat_{secrets.token_hex(20)}"


def carries(intent: Mapping[str, Any], token: object) -> bool:
    """Whether an intent has this token, by a comparison that takes as long for any other; "" is nobody's."""
    given = intent.get(TOKEN_KEY)
    if not (isinstance(given, str) and isinstance(token, str) and token):
        return False
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode("utf-8", "replace"))
