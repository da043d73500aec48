"""What servers of today send: where the model's answer stands, what is thinking, and whose words an error has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffex_dagster.corpus.vlm.answers import read_answer, saved_answer
from diffex_dagster.corpus.vlm.messages import Said, from_file, said_by, without_thinking
from diffex_dagster.corpus.vlm.prompts import ProposalRequest
from diffex_dagster.corpus.vlm.proposer import OpenAIProposer, OpenAIVLM
from diffex_dagster.corpus.vlm.protocol import Proposal
from diffex_dagster.corpus.vlm.recorded import RecordedProposer
from diffex_dagster.errors import CorpusError
from tests.support.chat_server import Reply, Script, Server, serving
from tests.support.services import Answer, served

TREE = json.dumps(
    {"categories": [
        {"name": "Hat", "prompt": "a hat", "children": [{"name": "Cap", "prompt": "a cap"}]},
        {"name": "Beard", "prompt": "a beard", "children": [{"name": "Goatee", "prompt": "a goatee"}]},
    ]}
)  # fmt: skip
DRAFT = '{"categories": [{"name": "Nose ring", "prompt": "a nose ring"}, {"name": "Age", "prompt": "old person"}]}'


def body(message: dict[str, Any] | None = None, finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **(message or {})}, "finish_reason": finish}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    } | more


def propose(url: str, **options: Any) -> Proposal:
    options = {"images_per_call": 2, "parallel": 1, "retries": 0, "timeout_s": 10.0, **options}
    pictures = [Image.new("RGB", (32, 32), (40 * i, 90, 120)) for i in range(2)]
    return OpenAIProposer(OpenAIVLM(model="my-vlm", base_url=url, **options)).propose(
        pictures, ProposalRequest("faces")
    )


def groups(reply: Reply | Script, **options: Any) -> tuple[list[str], Server]:
    with serving(reply if callable(reply) else lambda request, number: reply) as server:
        return [group.name for group in propose(server.url, **options).corpus.groups], server


def failure(reply: Reply | Script, **options: Any) -> tuple[str, Server]:
    with (
        serving(reply if callable(reply) else lambda request, number: reply) as server,
        pytest.raises(CorpusError) as e,
    ):
        propose(server.url, **options)
    assert "\n" not in str(e.value)
    return str(e.value), server


THOUGHT = [
    f"First idea:\n{DRAFT}\nI drop both.\n</think>\n\n{TREE}",
    f"Maybe a hat? or a beard.\n</think>\n\n{TREE}",
    f"<think>{DRAFT}</think>{TREE}",
    f"<think>{DRAFT} or use <think> twice</think>{TREE}",
    f"<think>a</think><think>{DRAFT}</think>{TREE}",
    f"<think>a<think>b</think>{DRAFT}</think>{TREE}",
    f"{DRAFT}</thinking>{TREE}",
    f"<Thought>{DRAFT}</Thought>{TREE}",
    f"<seed:think>{DRAFT}</seed:think>{TREE}",
    f'<reasoning effort="high">{DRAFT}</reasoning>{TREE}',
    f"[THINK]First idea: {DRAFT} - drop both.[/THINK]{TREE}",
    f"{DRAFT}[/THINK]{TREE}",
    f"<|channel|>analysis<|message|>{DRAFT} drop both<|end|><|start|>assistant<|channel|>final<|message|>{TREE}",
    f"<|channel|>analysis<|message|>{DRAFT}<|end|><|channel|>final <|constrain|>json<|message|>{TREE}<|return|>",
    f"◁think▷First idea: {DRAFT} drop both◁/think▷{TREE}",
    f"<unused94>thought\n{DRAFT}<unused95>{TREE}",
    f"<|begin_of_thought|>{DRAFT}<|end_of_thought|><|begin_of_solution|>{TREE}<|end_of_solution|>",
    f"{TREE}\n<think>was that right? {DRAFT}",
]


@pytest.mark.parametrize("text", THOUGHT)
def test_what_was_only_thought_becomes_no_feature(text: str) -> None:
    assert [group["name"] for group in read_answer(text)] == ["Hat", "Beard"]


def test_thinking_of_a_server_never_reaches_the_corpus() -> None:
    assert groups(Reply(THOUGHT[0]))[0] == ["Hat", "Beard"]


@pytest.mark.parametrize("text", [TREE, "a <b> c", "1 < 2 and 3 > 2", '{"name": "thinking cap"}', ""])
def test_text_without_thinking_stays_as_it_is(text: str) -> None:
    assert without_thinking(text) == text


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "text", "text": TREE}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}, {"type": "text", "text": TREE}]},
        {"content": [{"type": "reasoning", "text": DRAFT}, {"type": "output_text", "text": TREE}]},
        {"content": [TREE[:20], TREE[20:]]},
        {"content": {"type": "text", "text": TREE}},
        {"content": TREE, "reasoning_content": DRAFT},
        {"content": None, "reasoning_content": TREE},
        {"content": "", "reasoning": f"{DRAFT}</think>{TREE}"},
        {"content": None, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "features", "arguments": TREE}}]},
        {"content": None, "function_call": {"name": "features", "arguments": TREE}},
        {"content": None, "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": json.loads(TREE)}}]},
    ],
    ids=["parts", "thinking part", "reasoning part", "bare parts", "one part", "reasoning beside", "reasoning only",
         "reasoning with a mark", "tool call", "function call", "arguments as an object"],
)  # fmt: skip
def test_the_answer_is_found_wherever_a_server_puts_it(message: dict[str, Any]) -> None:
    assert groups(Reply(body=body(message)))[0] == ["Hat", "Beard"]


@pytest.mark.parametrize(
    ("message", "finish"),
    [
        ({"content": None, "reasoning_content": "I should think about hats..."}, "length"),
        ({"content": "", "reasoning": TREE}, "length"),
        ({"content": "<think>hats, beards, maybe"}, "length"),
        ({"content": [{"type": "thinking", "thinking": "hats"}]}, "length"),
        ({"content": ""}, "length"),
    ],
)
def test_tokens_spent_on_thinking_are_named_and_the_question_is_not_asked_again(
    message: dict[str, Any], finish: str
) -> None:
    said, server = failure(Reply(body=body(message, finish)), parameters={"max_tokens": 256})
    assert "used all its tokens" in said and "raise `max_tokens` (or lower `reasoning_effort`) in `parameters`" in said
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "message",
    [{"content": None, "refusal": "I cannot describe people"},
     {"content": [{"type": "refusal", "refusal": "I cannot describe people"}]}],
)  # fmt: skip
def test_a_refusal_is_quoted(message: dict[str, Any]) -> None:
    assert 'refused to describe the images ("I cannot describe people")' in failure(Reply(body=body(message)))[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"error": {"message": "the daily number of free requests is used up", "code": 429}}, "free requests is used up"),
        (body() | {"choices": None, "error": {"message": "the provider failed", "code": 502}}, "502: the provider failed"),
        ({"choices": [{"index": 0, "error": {"code": 502, "message": "overloaded"}, "message": {"content": ""}}]},
         "overloaded"),
        (body({"content": ""}, "error"), "stopped with an error"),
        ({"object": "error", "message": "out of memory on the card", "code": 500}, "out of memory on the card"),
        ({"detail": [{"msg": "images are not allowed"}]}, "images are not allowed"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": '{"error": "no seats"}'}}}, "no seats"),
        ({"error": "plain words"}, "plain words"),
    ],
)  # fmt: skip
def test_an_error_with_status_200_says_what_the_server_said(answer: dict[str, Any], words: str) -> None:
    assert words in failure(Reply(body=answer))[0]


def test_an_error_in_the_body_that_may_pass_is_asked_again() -> None:
    def script(request: dict[str, Any], number: int) -> Reply:
        return Reply(TREE) if number else Reply(body={"error": {"message": "busy", "code": 429}})

    found, server = groups(script, retries=1)
    assert found == ["Hat", "Beard"] and len(server.requests) >= 2


def system_roles(request: dict[str, Any]) -> bool:
    return any(message["role"] == "system" for message in request["messages"])


@pytest.mark.parametrize(
    ("refuses", "status", "words"),
    [
        (system_roles, 400, "the chat template of this model has no system role"),
        (system_roles, 500, "roles have to alternate and to begin with user"),
        (system_roles, 500, "internal error"),
        (lambda request: "response_format" in request, 500, "the grammar of the schema cannot be parsed"),
        (lambda request: "response_format" in request, 404, "no endpoint takes response_format"),
        (lambda request: "max_tokens" in request, 400, "max_tokens: use max_completion_tokens instead"),
        (lambda request: system_roles(request) or "response_format" in request, 422, "unprocessable"),
    ],
)
def test_a_server_that_cannot_take_the_usual_form_is_asked_in_a_simpler_one(
    refuses: Any, status: int, words: str
) -> None:
    def script(request: dict[str, Any], number: int) -> Reply:
        return Reply(words, status=status) if refuses(request) else Reply(TREE)

    found, server = groups(script, parameters={"max_tokens": 100})
    assert found == ["Hat", "Beard"]
    assert not refuses(server.requests[-1])
    last = server.requests[-1]
    assert last.get("max_tokens", last.get("max_completion_tokens")) == 100
    asked = "\n".join(json.dumps(message["content"]) for message in last["messages"])
    assert "prompt" in asked and len(server.requests) <= 6


def test_when_no_form_helps_the_first_words_of_the_server_are_quoted() -> None:
    said, server = failure(lambda request, number: Reply(f"no, number {number}", status=400))
    assert "no, number 0" in said and len(server.requests) <= 4
    assert "teapot on fire" in failure(Reply("teapot on fire", status=500))[0]
    assert "nobody home" in failure(Reply("nobody home", status=404))[0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_never_carries_pictures_or_keys_to_another_host(status: int) -> None:
    with served(lambda sent, number: Answer(status=500)) as elsewhere:
        to = f"{elsewhere.url}/v1/chat"
        said, _ = failure(Reply("", status=status, headers={"Location": f"{to}?token=secret"}))
    assert elsewhere.got == []
    assert f"redirects to {to}, and nothing was sent there" in said and "secret" not in said


def test_a_redirect_on_the_same_host_is_followed_with_the_question() -> None:
    def script(request: dict[str, Any], number: int) -> Reply:
        return Reply(TREE) if number else Reply("", status=307, headers={"Location": "/v1/chat/completions/"})

    found, server = groups(script)
    assert found == ["Hat", "Beard"]
    assert [request["path"] for request in server.requests[:2]] == ["/v1/chat/completions", "/v1/chat/completions/"]
    assert server.requests[0]["messages"] == server.requests[1]["messages"]


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "socks://127.0.0.1:9"])
def test_a_proxy_is_not_asked_for_a_server_on_this_machine(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy)
    assert groups(Reply(TREE))[0] == ["Hat", "Beard"]


@pytest.mark.parametrize(
    ("proxy", "says"),
    [("http://127.0.0.1:9", r"through the proxy in ALL_PROXY.*correct or unset ALL_PROXY, or list the host in NO_PROXY"),
     ("socks5://127.0.0.1:9", r"SOCKS proxy.*pip install 'httpx\[socks\]'"),
     ("socks://127.0.0.1:9", r"Unknown scheme.*write ALL_PROXY as http")],
)  # fmt: skip
def test_a_proxy_that_cannot_be_used_is_named(proxy: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(CorpusError, match=says):
        propose("http://vlm.invalid/v1")


@pytest.mark.parametrize(
    "saved",
    [
        body({"content": TREE}),
        {"message": {"role": "assistant", "content": TREE}, "done": True},
        {"type": "message", "role": "assistant", "content": [{"type": "text", "text": TREE}]},
        {"candidates": [{"content": {"parts": [{"text": DRAFT, "thought": True}, {"text": TREE}]}}]},
        {"object": "response", "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": TREE}]}]},
    ],
    ids=["Chat Completions", "Ollama", "Anthropic", "Gemini", "Responses"],
)  # fmt: skip
def test_a_saved_response_is_read_for_the_answer_in_it(tmp_path: Path, saved: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(saved))
    proposal = RecordedProposer(tmp_path / "a.json").propose([], ProposalRequest("faces"))
    assert [group.name for group in proposal.corpus.groups] == ["Hat", "Beard"]


def test_a_saved_error_is_no_corpus_and_a_saved_answer_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r'a server\'s error \("Rate limit reached"\)'):
        saved_answer('{"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}')
    with pytest.raises(CorpusError, match="only its thinking"):
        saved_answer(json.dumps(body({"content": "<think>hm"})))
    assert saved_answer(TREE) == TREE and saved_answer("## Hat\n- cap") == "## Hat\n- cap"
    with pytest.raises(CorpusError, match="This is a study file"):
        saved_answer("name: x\nimages: {}\ncorpus:\n  vlm: y\neditors: {}\nclassifiers: {}\n")
    (nameless,) = read_answer('{"categories": [{"name": "", "prompt": "a hat", "children": ["Beanie"]}]}')
    assert nameless == {"name": "a hat", "children": [{"name": "Beanie"}]}
    assert from_file('{"Hat": ["cap"], "Beard": ["goatee"]}') is None
    assert said_by("<html>") is None and said_by({"object": "list"}) is None
    assert said_by(body({"content": "x"})) == Said("x")
