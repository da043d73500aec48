"""One question to a vision-language model over the Chat Completions API, or its answer from the cache.

Any server that speaks the API will do: OpenAI, vLLM, Ollama, llama.cpp, LM Studio. Retries on 429, 5xx and timeouts,
with back-off, are the `openai` client's own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from diffex_dagster.corpus.vlm.answers import CUT_OFF
from diffex_dagster.corpus.vlm.messages import error_words, said_by
from diffex_dagster.corpus.wording import tidy
from diffex_dagster.errors import CorpusError, passing
from diffex_dagster.utils.secrets import logger, redact, remember, remember_address
from diffex_dagster.utils.web import SameHost, environment_counts, proxy_remedy, redirected_to, unreachable

if TYPE_CHECKING:
    import openai

log = logger(__name__)

_OVERFLOW = re.compile(
    r"context_length_exceeded|context (length|window|size)|maximum context|too many (tokens|images)|prompt is too long|"
    r"exceeds? the (available|maximum|model)|at most \d+ image|request (entity )?too large",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model_not_found|no such model|model\b.{0,120}\b(not (exist|found|loaded|available)|unknown)", re.IGNORECASE
)
_ABOUT_ROLES = re.compile(r"\b(system|roles?|alternat\w+|developer (message|instruction)s?)\b", re.IGNORECASE)
_FORMATS = ("json_schema", "json_object", "text")
# Servers refuse a form of question (a schema, a system message, a name of a field) under any of these.
_MAY_BE_THE_FORM = frozenset({400, 404, 405, 406, 415, 422, 500, 501, 502, 503})
_OPENAI = "https://api.openai.com/v1"
_TEXTS_PER_CALL = 128  # under every server's limit on texts in one embedding request


class AnswerCache(Protocol):
    """Where answers are kept, so that a question is never paid for twice. The store implements it."""

    def get(self, key: str) -> str | None:
        """The answer kept under a key, if there is one."""

    def put(self, key: str, answer: str, usage: dict[str, int]) -> None:
        """Keep an answer, and how many `prompt_tokens` and `completion_tokens` it took."""


class MemoryCache:
    """Answers kept as long as the object lives; for tests and for use without a store."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """See `AnswerCache`."""
        return self.answers.get(key)

    def put(self, key: str, answer: str, usage: dict[str, int]) -> None:
        """See `AnswerCache`."""
        self.answers[key] = answer


@dataclass(frozen=True)
class Question:
    """What is sent: the text, the images with it, and the JSON schema that the answer should have."""

    system: str
    text: str
    images: tuple[Image.Image, ...] = field(default=(), repr=False)
    schema: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass
class Tally:
    """What has been asked so far, and what it cost. Safe to share between threads.

    Attributes:
        made: calls to the server (retries not counted).
        reused: answers that came from the cache.
        tokens: (sent, received) in the calls that were made, by model.
        prices: a user's own table over the shipped one; see `price_of`.
    """

    prices: Mapping[str, Sequence[float]] | None = None
    made: int = 0
    reused: int = 0
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, model: str, usage: Mapping[str, int] | None) -> None:
        """Count a call that was made (with its usage) or reused (None)."""
        with self._lock:
            if usage is None:
                self.reused += 1
                return
            self.made += 1
            sent, received = self.tokens.get(model, (0, 0))
            self.tokens[model] = (sent + usage.get("prompt_tokens", 0), received + usage.get("completion_tokens", 0))

    @property
    def prompt_tokens(self) -> int:
        """Tokens sent, to all models."""
        return sum(sent for sent, _ in self.tokens.values())

    @property
    def completion_tokens(self) -> int:
        """Tokens received, from all models."""
        return sum(received for _, received in self.tokens.values())

    @property
    def price(self) -> float | None:
        """US dollars for the calls that were made; None where a model is in no price table."""
        each = [price_of(model, sent, received, self.prices) for model, (sent, received) in self.tokens.items()]
        return None if None in each else float(sum(one for one in each if one is not None))


class ContextOverflow(CorpusError):
    """The images and the text together are more than the model takes."""


class Refused(CorpusError):
    """The model will not describe these images."""


def key_variable(base_url: str | None, key_env: str | None) -> str | None:
    """The environment variable with the key for a server: the one that is named for it, OPENAI_API_KEY for OpenAI's own
    address (`base_url` None), and none for any other: a key is never sent to a server that it was not named for.
    """
    return key_env if key_env or base_url else "OPENAI_API_KEY"


class _ErrorInBody(Exception):
    """A server answered with status 200 and an error in the body, as gateways do."""

    def __init__(self, words: str, status: int | None) -> None:
        super().__init__(words)
        self.body, self.status_code = {"error": {"message": words}}, status


@dataclass(frozen=True)
class _Way:
    """How a question is put: what a server that cannot take the usual form is asked with instead."""

    format: int = 0  # index into _FORMATS
    system: bool = True  # instructions as a message of their own, or before the question
    newer_names: bool = False  # max_completion_tokens for max_tokens

    def simpler(self, refused: str) -> _Way | None:
        """The next way to try after the server's words; None after the last."""
        if "max_completion_tokens" in refused and not self.newer_names:
            return replace(self, newer_names=True)
        if self.system and _ABOUT_ROLES.search(refused):
            return replace(self, system=False)
        if self.format < len(_FORMATS) - 1:
            return replace(self, format=self.format + 1)
        return replace(self, system=False) if self.system else None


def _messages(system: str, content: list[dict[str, Any]], separate: bool) -> Any:
    """The messages of a question; models without a system role get its instructions before the question."""
    if separate:
        return [{"role": "system", "content": system}, {"role": "user", "content": content}]
    question = {**content[0], "text": f"{system}\n\n{content[0]['text']}"}
    return [{"role": "user", "content": [question, *content[1:]]}]


class Asker:
    """Asks one model.

    Args:
        base_url: the API's address, ending in `/v1` for most servers; None for OpenAI's own.
        model: the model's name, as the server knows it.
        key_env: name of the environment variable with the API key; see `key_variable` for None.
        cache: where answers are kept.
        image_side: images are scaled down to at most this many pixels a side.
        parameters: further fields of the request ("temperature", "seed", "max_tokens", "reasoning_effort", ...).
        retries: how many times the client tries again after 429, 5xx or a timeout, with exponential back-off.
        timeout_s: how long one try may take, in seconds.
    """

    def __init__(
        self,
        base_url: str | None,
        model: str,
        key_env: str | None,
        cache: AnswerCache,
        *,
        image_side: int = 512,
        parameters: Mapping[str, Any] | None = None,
        retries: int = 4,
        timeout_s: float = 120.0,
    ) -> None:
        self.base_url, self.model, self.cache = base_url, model, cache
        self.key_env = key_variable(base_url, key_env)
        remember_address(base_url or "")
        self.image_side, self.parameters = image_side, dict(parameters or {})
        self.retries, self.timeout_s = retries, timeout_s
        self._client: openai.OpenAI | None = None
        self._way = _Way()  # how the server was last asked with success
        self._lock = threading.Lock()

    def ask(self, question: Question, tally: Tally, keep: Callable[[str], bool] = lambda answer: True) -> str:
        """The model's answer as text, from the cache or the server.

        Only an answer that `keep` accepts goes into the cache, so that a bad one does not come back for ever. On a
        context overflow the question is asked again with half of the images, down to one.

        Raises:
            CorpusError: no key, no such model, a refusal, no connection, or any other way the server says no. One
                sentence, never with the key in it.
        """
        key = self.key(question)
        if (known := self.cache.get(key)) is not None:
            tally.count(self.model, None)
            return known
        asked = question
        while True:
            try:
                answer, usage = self._complete(asked)
                break
            except ContextOverflow:
                if len(asked.images) < 2:
                    raise
                fewer = asked.images[: len(asked.images) // 2]
                log.warning("%d images are too many for %s: asking with %d", len(asked.images), self.model, len(fewer))
                asked = Question(asked.system, asked.text, fewer, asked.schema)
        tally.count(self.model, usage)
        if keep(answer):
            # under the question as it was first asked, so that a second run does not overflow again
            self.cache.put(key, answer, usage)
        return answer

    def embed(self, texts: Sequence[str], model: str, tally: Tally) -> np.ndarray:
        """Embeddings of texts by a model of the same server, shape (len(texts), dimensions).

        Texts go out in lots; a lot that has been answered is not sent again.

        Raises:
            CorpusError: as `ask`, or the server sent something else than one vector for each text.
        """
        lots = [list(texts[i : i + _TEXTS_PER_CALL]) for i in range(0, len(texts), _TEXTS_PER_CALL)]
        vectors = [vector for lot in lots for vector in self._embed(lot, model, tally)]
        if len({len(vector) for vector in vectors}) > 1:
            raise CorpusError(f"{self._server} sent vectors of different lengths: check `embedding_model` ({model!r}).")
        return np.array(vectors, dtype=np.float64).reshape(len(texts), -1 if texts else 0)

    def _embed(self, texts: Sequence[str], model: str, tally: Tally) -> list[list[float]]:
        key = hashlib.sha256(json.dumps(["embedding", model, list(texts)]).encode()).hexdigest()
        if (stored := self.cache.get(key)) is not None:
            tally.count(model, None)
            known: list[list[float]] = json.loads(stored)
            return known
        problem: CorpusError | None = None
        client = self._connect()
        try:
            # "float" is what every server speaks; the client's own default, base64, is not
            answer: Any = client.embeddings.create(model=model, input=list(texts), encoding_format="float")
            items = sorted(answer.data, key=lambda item: int(item.index))
            vectors = [[float(number) for number in item.embedding] for item in items]
        except (AttributeError, TypeError, ValueError):
            vectors = []
        except Exception as error:  # every failure of the client becomes one CorpusError
            problem = self._explain(error, model)
        if problem is not None:
            raise problem
        if len(vectors) != len(texts) or not all(vectors):
            raise CorpusError(
                f"{self._server} did not send one vector for each text: check that {model!r} (`embedding_model`) is an "
                "embedding model."
            )
        usage = getattr(answer, "usage", None)
        counts = {"prompt_tokens": int(getattr(usage, "prompt_tokens", 0) or 0), "completion_tokens": 0}
        tally.count(model, counts)
        self.cache.put(key, json.dumps(vectors), counts)
        return vectors

    def remember(self, question: Question, answer: str) -> None:
        """Keep an answer that another question got (a second try) for this one too."""
        self.cache.put(self.key(question), answer, {"prompt_tokens": 0, "completion_tokens": 0})

    def key(self, question: Question) -> str:
        """Hash of all that decides the answer: images, prompt, model, parameters. Not the address, not the API key."""
        digest = hashlib.sha256()
        wording = [self.model, question.system, question.text, question.schema, self.parameters, self.image_side]
        digest.update(json.dumps(wording, sort_keys=True, default=str).encode())
        for image in question.images:
            pixels = image.convert("RGB")
            digest.update(f"{pixels.size}".encode())
            digest.update(pixels.tobytes())
        return digest.hexdigest()

    def _complete(self, question: Question) -> tuple[str, dict[str, int]]:
        client = self._connect()
        content: list[dict[str, Any]] = [{"type": "text", "text": question.text}]
        content += [
            {"type": "image_url", "image_url": {"url": data_url(image, self.image_side)}} for image in question.images
        ]
        first: CorpusError | None = None
        waited = 0
        way = self._way
        while True:
            problem: CorpusError | None = None
            try:
                # the server chooses its own fields, so the request is built as plain data
                completion: Any = client.chat.completions.create(
                    model=self.model,
                    messages=_messages(question.system, content, way.system),
                    **self._response_format(question, way.format),
                    **self._parameters(way),
                )
                answer = self._content(completion)
            except Exception as error:  # every failure of the client becomes one CorpusError
                problem = self._explain(error)
                status, words = getattr(error, "status_code", None), str(error)
                in_body = isinstance(error, _ErrorInBody)
            if problem is None:
                with self._lock:
                    self._way = way
                return answer
            if in_body and waited < self.retries and (status == 429 or (status or 0) >= 500):
                time.sleep(min(0.25 * 2**waited, 8.0))  # the client retries by status, and this one was 200
                waited += 1
                continue
            first = first or problem
            simpler = way.simpler(words) if type(problem) is CorpusError and status in _MAY_BE_THE_FORM else None
            if simpler is None or _NO_MODEL.search(words):
                # raised outside `except`, so that no traceback leads to the request and its headers
                raise first
            way = simpler

    def _parameters(self, way: _Way) -> dict[str, Any]:
        """The study's own fields; `max_tokens` under its newer name where the server asked for that."""
        if not way.newer_names or "max_tokens" not in self.parameters:
            return self.parameters
        renamed = dict(self.parameters)
        return {"max_completion_tokens": renamed.pop("max_tokens"), **renamed}

    def _response_format(self, question: Question, form: int) -> dict[str, Any]:
        kind = _FORMATS[form]
        if kind == "text" or not question.schema:
            return {}
        if kind == "json_object":
            return {"response_format": {"type": "json_object"}}
        schema = {"name": "features", "strict": True, "schema": question.schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def _content(self, completion: Any) -> tuple[str, dict[str, int]]:
        said = said_by(completion)
        if said is None:
            what = self._scrub(str(completion)) if isinstance(completion, str) else ""
            raise CorpusError(
                f"{self._server} did not send a Chat Completions answer{f' but {what!r}' if what else ''}: check "
                "`base_url` (most servers want it to end in /v1)."
            )
        if said.error:
            raise _ErrorInBody(said.error, said.status)
        if said.refusal:
            raise Refused(
                f'The model {self.model!r} refused to describe the images ("{self._scrub(said.refusal)}"): use another '
                "model."
            )
        if said.cut and not said.text.strip():
            spent = "thinking" if said.thought else "nothing that can be read"
            raise CorpusError(
                f"The model {self.model!r} used all its tokens for {spent}: raise `max_tokens` (or lower "
                "`reasoning_effort`) in `parameters`."
            )
        answer = said.text + (CUT_OFF if said.cut else "")
        usage = getattr(completion, "usage", None)
        counts = {name: int(getattr(usage, name, 0) or 0) for name in ("prompt_tokens", "completion_tokens")}
        return redact(answer), counts

    def _connect(self) -> openai.OpenAI:
        with self._lock:
            if self._client is None:
                import openai

                class Client(SameHost, openai.DefaultHttpxClient):
                    """Pictures and keys go to the host that was named and to no other."""

                key, address = self._key(), self.base_url or _OPENAI
                try:
                    self._client = openai.OpenAI(
                        # a server without keys still gets a header, since the client insists on one
                        api_key=key or "none",
                        base_url=self.base_url,
                        max_retries=self.retries,
                        timeout=self.timeout_s,
                        http_client=Client(trust_env=environment_counts(address)),
                    )
                except Exception as error:  # an address or a proxy that cannot be
                    remedy = proxy_remedy(error) or "correct `base_url`"
                    why = self._scrub(unreachable(error, address))
                    raise CorpusError(f"{self._server} cannot be asked ({why}): {remedy}.") from None
            return self._client

    def _key(self) -> str | None:
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise CorpusError(
                f"The environment variable {self.key_env} holds no API key for the model {self.model!r}: set it, or "
                "name a recorded answer or a starter corpus in the study."
            )
        remember(key)
        return key

    @property
    def _server(self) -> str:
        # without a user name, password or query that somebody may have put into the address
        return re.sub(r"//[^/@]*@", "//", self.base_url).partition("?")[0] if self.base_url else "OpenAI"

    def _scrub(self, text: str) -> str:
        # some servers repeat the key, or its first and last letters, in their message
        line = re.sub(r"\b(sk|key|Bearer)[-_ ][\w*.-]{6,}", "***", redact(tidy(text)))
        return line if len(line) <= 160 else line[:159] + "…"

    def _explain(self, error: Exception, model: str | None = None) -> CorpusError:
        """What went wrong in one sentence with a remedy; `model` where it is not the one that is asked."""
        import openai

        said, status = self._sentence(error, model), getattr(error, "status_code", None)
        away = isinstance(error, openai.APIConnectionError)  # a timeout is one
        busy = isinstance(status, int) and (status in (408, 429) or status >= 500)
        return passing(said) if (away or busy) and not isinstance(said, ContextOverflow) else said

    def _sentence(self, error: Exception, model: str | None) -> CorpusError:
        import openai

        field = "model" if model is None else "embedding_model"
        model = model or self.model

        if isinstance(error, CorpusError):
            return error
        status = getattr(error, "status_code", None)
        said = self._scrub(error_words(getattr(error, "body", None)) or str(error))
        if isinstance(error, openai.APITimeoutError):
            return CorpusError(
                f"{self._server} did not answer within {self.timeout_s:g} s, {self.retries + 1} times: raise "
                "`timeout_s`, or send fewer images a call."
            )
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            why = self._scrub(unreachable(cause, self.base_url or _OPENAI))
            remedy = proxy_remedy(cause) if environment_counts(self.base_url or _OPENAI) else None
            return CorpusError(
                f"{self._server} cannot be reached ({why}): start the server, or correct `base_url`"
                + (f"; {remedy}." if remedy else ".")
            )
        if (
            elsewhere := redirected_to(error.response) if isinstance(error, openai.APIStatusError) else None
        ) is not None:
            return CorpusError(
                f"{self._server} redirects to {elsewhere}, and nothing was sent there: name that address as `base_url` "
                "if it is the one you mean."
            )
        if status in (401, 403):
            return CorpusError(
                f"{self._server} does not accept the key in the environment variable {self.key_env}: set a valid "
                f'key with access to {model!r} (it said "{said}").'
                if self.key_env
                else f"{self._server} asks for an API key: name its environment variable as `key_env` in the study "
                f'(it said "{said}").'
            )
        if status == 429:
            return CorpusError(
                f"{self._server} still refuses for too many requests or no quota after {self.retries} retries "
                f"({said}): wait, lower the number of parallel calls, or check the account."
            )
        if status == 413 or _OVERFLOW.search(str(error)):
            return ContextOverflow(
                f"The request does not fit into the context of {model!r} ({said}): lower `images_per_call`, "
                "`image_side` or the context budget."
            )
        if status == 404 or _NO_MODEL.search(str(error)):
            named = _NO_MODEL.search(str(error)) or not said
            what = f"has no model {model!r}" if named else f"has nothing at that address or no model {model!r} ({said})"
            return CorpusError(
                f"{self._server} {what}{self._models()}: correct `{field}`, or `base_url` if the API is elsewhere."
            )
        if status is not None and status >= 500:
            return CorpusError(
                f"{self._server} failed {self.retries + 1} times (status {status}: {said}): try again later, or look "
                "into the server's log."
            )
        return CorpusError(f"{self._server} did not accept the request ({said}): check `{field}` and `parameters`.")

    def _models(self) -> str:
        """Which models there are, where the server says so."""
        import openai

        try:
            names = [model.id for model in self._connect().with_options(max_retries=0, timeout=5).models.list().data]
        except (openai.OpenAIError, CorpusError, AttributeError, TypeError, ValueError):
            return ""
        return f" (it has {', '.join(map(self._scrub, sorted(names)[:8]))})" if names else ""


def data_url(image: Image.Image, side: int) -> str:
    """An image as a JPEG data URL, scaled down to at most `side` pixels a side; transparency becomes white."""
    if image.mode in ("RGBA", "LA", "P"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def price_of(
    model: str, prompt_tokens: int, completion_tokens: int, prices: Mapping[str, Sequence[float]] | None = None
) -> float | None:
    """What tokens cost, in US dollars.

    Args:
        model: the model's name; a vendor before a slash ("openai/gpt-4o") does not count.
        prompt_tokens: tokens sent.
        completion_tokens: tokens received.
        prices: a user's own table, (sent, received) for a million tokens, over the shipped one.

    Returns:
        None where no table has the model.
    """
    shipped = YAML(typ="safe").load((files(__package__) / "prices.yaml").read_text("utf-8"))
    table = {**shipped, **(prices or {})}
    name = model if model in table else model.rpartition("/")[2]
    known = max((one for one in table if name.startswith(one)), key=len, default=None)
    if known is None:
        return None
    sent, received = table[known]
    return float((prompt_tokens * sent + completion_tokens * received) / 1e6)
