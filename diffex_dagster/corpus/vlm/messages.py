"""From what a server sends to the text that the model wrote for us.

Chat Completions in every form that servers are known to use (content as text or parts, tool calls, a reasoning field,
errors with status 200), and the same answers saved in a file: also of the Responses API, Ollama, Anthropic and Gemini.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Said:
    """What a message says.

    Attributes:
        text: the model's visible answer, thinking taken out; empty where there is none.
        refusal: the model's words where it will not answer.
        cut: the server stopped it before its end (tokens ran out).
        thought: there was thinking, whether or not an answer followed.
        error: the server's own words where it failed and said so in the body.
        status: that error's HTTP status, where its code is one.
    """

    text: str = ""
    refusal: str = ""
    cut: bool = False
    thought: bool = False
    error: str = ""
    status: int | None = None


def said_by(completion: Any) -> Said | None:
    """What a completion says; None where it is no completion at all.

    Args:
        completion: the parsed body: mappings, or objects with attributes.
    """
    failed = _error_of(completion)
    choices = _get(completion, "choices")
    if not isinstance(choices, list | tuple) or not choices:
        return failed or _said_elsewhere(completion)
    choice = choices[0]
    finish = str(_get(choice, "finish_reason") or "")
    message = _get(choice, "message") or {}
    failed = (
        failed or _error_of(choice) or (Said(error="the model stopped with an error") if finish == "error" else None)
    )
    text, thought = _visible(_get(message, "content"))
    text = text or _of_tools(message) or _text_of(_get(choice, "text")) or _dumped(_get(message, "parsed"))
    reasoning = next((found for name in _REASONING if (found := _text_of(_get(message, name)))), "")
    cut = finish in ("length", "max_tokens", "model_length")
    if not text and reasoning and not cut and not failed:
        text = without_thinking(reasoning)  # a server that takes the whole answer for thinking
    if failed and not text:
        return failed
    refusal = _text_of(_get(message, "refusal")) or _refusal_part(_get(message, "content"))
    if finish in ("content_filter", "refusal", "safety") and not refusal:
        refusal = text or "the server's content filter stopped it"
    return Said(text, refusal, cut, thought or bool(reasoning))


_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_text")


def _said_elsewhere(body: Any) -> Said | None:
    """The answer of an API that is not Chat Completions: Responses, Ollama, Anthropic, Gemini."""
    message = _get(body, "message")
    for content in (_get(message, "content"), _get(body, "output_text"), _get(body, "response"), _get(body, "content")):
        text, thought = _visible(content)
        if text or thought:
            stopped = str(_get(body, "stop_reason") or _get(body, "done_reason") or "")
            return Said(text, cut=stopped in ("length", "max_tokens"), thought=thought)
    output = _get(body, "output")
    if isinstance(output, list):
        parts = [part for item in output for part in _get(item, "content") or [] if _get(item, "type") == "message"]
        text, thought = _visible(parts)
        return Said(text, _refusal_part(parts), _get(body, "status") == "incomplete", thought) if output else None
    candidates = _get(body, "candidates")
    if isinstance(candidates, list) and candidates:
        text, thought = _visible(_get(_get(candidates[0], "content"), "parts"))
        return Said(text, cut=_get(candidates[0], "finishReason") == "MAX_TOKENS", thought=thought)
    return None


def from_file(text: str) -> Said | None:
    """What a saved body says, where a text is one: an answer of a server, or its error; None for any other text."""
    if not text.lstrip("\ufeff \n\r\t").startswith("{"):
        return None
    try:
        body = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or not {"choices", "error", "output", "candidates", "message", "content", "response",
                                          "output_text", "detail"} & set(body):  # fmt: skip
        return None
    said = said_by(body)
    return said if said is not None and (said.text or said.error or said.refusal or said.thought) else None


# Errors --------------------------------------------------------------------------------------------------------------


def error_words(body: Any) -> str:
    """The server's own words in an error body; empty where it has none that are known."""
    for _ in range(4):
        if isinstance(body, str):
            return " ".join(body.split())
        if isinstance(body, list) and body:
            body = body[0]
        inner = next((found for name in ("error", "message", "detail", "msg", "errors", "raw")
                      if (found := _get(body, name)) not in (None, "", [], {})), None)  # fmt: skip
        if inner is None:
            return ""
        body = inner
    return ""


def _error_of(body: Any) -> Said | None:
    error = _get(body, "error")
    if error in (None, "", {}, []):
        bare = _get(body, "object") == "error" or (_get(body, "detail") and not _get(body, "choices"))
        if not bare:
            return None
        error = body
    code = next((found for name in ("code", "status", "status_code", "http_code")
                 if isinstance(found := _as_status(_get(error, name)), int)), None)  # fmt: skip
    words = error_words(error)
    metadata = _get(_get(error, "metadata"), "raw")  # what a gateway's provider said
    more = error_words(metadata) if metadata else ""
    return Said(error=f"{words}: {more}" if more and more not in words else words or "no reason given", status=code)


def _as_status(code: Any) -> int | None:
    try:
        return int(code) if 400 <= int(code) < 600 else None
    except (TypeError, ValueError):
        return None


# Text ----------------------------------------------------------------------------------------------------------------


def _visible(content: Any) -> tuple[str, bool]:
    """The text of a message's content, in whatever form, and whether thinking was taken out of it."""
    if isinstance(content, str):
        text = without_thinking(content)
        return text, text != content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list | tuple):
        return "", False
    texts, thought = [], False
    for part in content:
        kind = str(_get(part, "type") or "text")
        if kind in ("thinking", "reasoning", "redacted_thinking") or _get(part, "thought") is True:
            thought = True
        elif isinstance(part, str):
            texts.append(part)
        elif kind in ("json", "tool_use"):
            texts.append(_dumped(_get(part, "json") or _get(part, "input")))
        elif kind != "refusal":
            texts.append(_text_of(_get(part, "text")) or _text_of(_get(part, "content")))
    joined = "".join(texts)
    text = without_thinking(joined)
    return text, thought or text != joined


def _refusal_part(content: Any) -> str:
    parts = content if isinstance(content, list | tuple) else []
    return next((_text_of(_get(part, "refusal")) for part in parts if _get(part, "type") == "refusal"), "")


def _of_tools(message: Any) -> str:
    """The arguments of tool calls: where a model puts an answer that was to have a schema."""
    calls = [*(_get(message, "tool_calls") or [])]
    functions = [_get(call, "function") or call for call in calls]
    if (legacy := _get(message, "function_call")) is not None:
        functions.append(legacy)
    return "\n".join(_dumped(_get(function, "arguments") or _get(function, "input")) for function in functions)


def _dumped(value: Any) -> str:
    if value in (None, "", {}, []):
        return ""
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text_of(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("value") or value.get("text")
    if isinstance(value, list | tuple):
        return "".join(_text_of(each) for each in value)
    return value if isinstance(value, str) else ""


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


# Thinking ------------------------------------------------------------------------------------------------------------

_WORDS = r"(?:seed:|ant:|m:|mm:)?(?:think|thinking|thought|thoughts|reason|reasoning|reflection|analysis|scratchpad)"
_PAIRS = (
    (rf"<\s*{_WORDS}\b[^<>]*>", rf"<\s*/\s*{_WORDS}\s*>"),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"◁think▷", r"◁/think▷"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<unused94>(?:thought)?", r"<unused95>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
)
_MARKS = [(re.compile(begins, re.IGNORECASE), re.compile(ends, re.IGNORECASE)) for begins, ends in _PAIRS]
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(\w+).*?<\|message\|>(.*?)(?=<\|(?:end|start|channel|return|call)\|>|\Z)", re.DOTALL
)
_SOLUTION = re.compile(r"<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>|\Z)", re.DOTALL)


def without_thinking(text: str) -> str:
    """A model's text without what it thought: marked blocks, all before a closing mark that stands alone (the chat
    template wrote the opening one), and all after an opening mark that is never closed.
    """
    if channels := _CHANNEL.findall(text):
        return "\n".join(words for name, words in channels if name.lower() == "final").strip()
    for begins, ends in _MARKS:
        text = "".join(_outside(text, begins, ends))
    if solution := _SOLUTION.findall(text):
        text = "\n".join(solution)
    return text


def _outside(text: str, begins: re.Pattern[str], ends: re.Pattern[str]) -> Iterator[str]:
    marks = sorted(
        [(match.start(), match.end(), True) for match in begins.finditer(text)]
        + [(match.start(), match.end(), False) for match in ends.finditer(text)]
    )
    answer: list[str] = []
    at, thinking = 0, False
    for start, end, opening in marks:
        if opening and not thinking:
            answer.append(text[at:start])
            thinking = True
        elif not opening:
            if not thinking:
                answer = []  # all before a lone closing mark was thought
            at, thinking = end, False
    return iter(answer if thinking else [*answer, text[at:]])
