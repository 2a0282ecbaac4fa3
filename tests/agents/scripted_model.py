"""A model on loopback that speaks the Messages API (claude) and the Responses API (codex), after a script.

A script is a list of turns; each conversation plays it from its start. What a request holds tells which turn it asks
for: one for each tool result that came before, so that a program that asks again gets the same answer.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

from tests.sinks import serving


class Run(NamedTuple):
    """A turn in which the model has a command run."""

    command: str


class Say(NamedTuple):
    """A turn with which the model ends."""

    text: str


class Refuse(NamedTuple):
    """An answer that is an error: of a limit, an overload, a missing login."""

    status: int
    headers: dict[str, str]
    message: str


Turn = Run | Say | Refuse


@dataclass
class ScriptedModel:
    script: Sequence[Turn]
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    """bodies of the requests for an answer, in order"""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def turn(self, results: int) -> Turn:
        return self.script[min(results, len(self.script) - 1)]


@contextmanager
def scripted_model(*script: Turn) -> Iterator[ScriptedModel]:
    """A model that answers by `script`; gone at the end."""
    model, numbers, taking = ScriptedModel(script), itertools.count(1), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(200, "application/json", b"")

        def do_GET(self) -> None:
            self._answer(200, "application/json", b'{"data": [], "models": []}')

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path = self.path.partition("?")[0]
            if path.endswith("/count_tokens"):
                self._answer(200, "application/json", b'{"input_tokens": 10}')
                return
            with taking:
                model.asked.append(body)
                number = next(numbers)
            responses = path.endswith("/responses")
            turn = model.turn(_results(body, responses=responses))
            if isinstance(turn, Refuse):
                error = {"type": "error", "error": {"type": "rate_limit_error", "message": turn.message}}
                self._answer(turn.status, "application/json", json.dumps(error).encode(), turn.headers)
                return
            events = _response(turn, number) if responses else _message(turn, number, str(body.get("model")))
            stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
            self._answer(200, "text/event-stream", stream.encode())

        def _answer(self, status: int, kind: str, body: bytes, more: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not to standard error."""

    with serving(Handler) as model.port:
        yield model


def _results(body: dict[str, Any], *, responses: bool) -> int:
    """How many results of tools a conversation holds."""
    if responses:
        return sum(item.get("type") == "function_call_output" for item in body.get("input", ()))
    parts = (part for message in body.get("messages", ()) for part in _parts(message["content"]))
    return sum(part.get("type") == "tool_result" for part in parts)


def _parts(content: Any) -> list[dict[str, Any]]:
    return content if isinstance(content, list) else []


def _message(turn: Run | Say, number: int, model: str) -> list[dict[str, Any]]:
    """An answer as platform.claude.com/docs/en/build-with-claude/streaming gives it."""
    if isinstance(turn, Run):
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": "Bash", "input": {}}
        given = {"command": turn.command, "description": "as the script says"}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(given)}
    else:
        block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": turn.text}
    usage = {"input_tokens": 100, "output_tokens": 20}
    message: dict[str, Any] = {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    reason = "tool_use" if isinstance(turn, Run) else "end_turn"
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]


def _response(turn: Run | Say, number: int) -> list[dict[str, Any]]:
    """An answer as platform.openai.com/docs/api-reference/responses-streaming gives it."""
    name = f"resp_{number}"
    item: dict[str, Any]
    if isinstance(turn, Run):
        given = json.dumps({"cmd": turn.command})
        item = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": "exec_command"}
        item["arguments"] = given
    else:
        content = [{"type": "output_text", "text": turn.text, "annotations": []}]
        item = {"type": "message", "id": f"item_{number}", "role": "assistant", "content": content}
    usage = {
        "input_tokens": 100, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 120,
    }  # fmt: skip
    return [
        {"type": "response.created", "response": {"id": name}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": name, "usage": usage}},
    ]
