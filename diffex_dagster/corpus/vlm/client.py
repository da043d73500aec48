"""Requests to a vision-language model over the Chat Completions API, or their answers from the cache.

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
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from diffex_dagster.corpus.vlm.answers import CUT_OFF
from diffex_dagster.corpus.vlm.failures import NO_MODEL, ContextOverflow, ErrorInBody, Refused, Server
from diffex_dagster.corpus.vlm.messages import said_by
from diffex_dagster.corpus.vlm.parts import ServerOptions, key_variable
from diffex_dagster.corpus.vlm.usage import AnswerCache, Usage
from diffex_dagster.errors import CorpusError
from diffex_dagster.utils.secrets import logger, redact, remember, remember_address
from diffex_dagster.utils.web import SameHost, environment_counts, proxy_remedy, unreachable

if TYPE_CHECKING:
    import openai

log = logger(__name__)

_ABOUT_ROLES = re.compile(r"\b(system|roles?|alternat\w+|developer (message|instruction)s?)\b", re.IGNORECASE)
_FORMATS = ("json_schema", "json_object", "text")
# Servers refuse a form of request (a schema, a system message, a name of a field) under any of these.
_MAY_BE_THE_FORM = frozenset({400, 404, 405, 406, 415, 422, 500, 501, 502, 503})
_TEXTS_PER_CALL = 128  # under every server's limit on texts in one embedding request


@dataclass(frozen=True)
class Request:
    """What is sent: the text, the images with it, and the JSON schema that the answer should have."""

    system: str
    text: str
    images: tuple[Image.Image, ...] = field(default=(), repr=False)
    schema: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class _Way:
    """How a request is put: what a server that cannot take the usual form is asked with instead."""

    format: int = 0  # index into _FORMATS
    system: bool = True  # instructions as a message of their own, or before the request
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
    """The messages of a request; models without a system role get its instructions before the request."""
    if separate:
        return [{"role": "system", "content": system}, {"role": "user", "content": content}]
    first = {**content[0], "text": f"{system}\n\n{content[0]['text']}"}
    return [{"role": "user", "content": [first, *content[1:]]}]


class Client:
    """Asks one model.

    Args:
        options: which model, where, and how it is asked.
        cache: where answers are kept.
        instead: what a study can do without the model, for messages.
    """

    def __init__(
        self,
        options: ServerOptions,
        cache: AnswerCache,
        instead: str = "name a recorded answer or a starter corpus in the study",
    ) -> None:
        self.instead = instead
        self.base_url, self.model, self.cache = options.base_url, options.model, cache
        self.key_env = key_variable(options.base_url, options.key_env)
        remember_address(options.base_url or "")
        self.image_side, self.parameters = options.image_side, dict(options.parameters)
        self.retries, self.timeout_s = options.retries, options.timeout_s
        self.server = Server(self.base_url, self.model, self.key_env, self.retries, self.timeout_s)
        self._client: openai.OpenAI | None = None
        self._way = _Way()  # how the server was last asked with success
        self._lock, self._at_cache = threading.Lock(), threading.Lock()  # a store is asked by one thread at a time

    def ask(
        self,
        request: Request,
        usage: Usage,
        keep: Callable[[str], bool] = lambda answer: True,
        with_images: Callable[[int], Request] | None = None,
    ) -> str:
        """The model's answer as text, from the cache or the server.

        Only an answer that `keep` accepts goes into the cache, so that a bad one does not come back for ever. On a
        context overflow the request is asked again with half of the images, down to one.

        Args:
            request: what is asked.
            usage: the call is counted in it.
            keep: whether an answer can be used.
            with_images: the request anew with at most so many images, where its text speaks of each of them; else the
                first of them are sent with the same text.

        Raises:
            CorpusError: no key, no such model, a refusal, no connection, or any other way the server says no. One
                sentence, never with the key in it.
        """
        key = self.key(request)
        if (known := self._known(key)) is not None:
            usage.count(self.model, None)
            return known
        asked = request
        while True:
            try:
                answer, counts = self._complete(asked)
                break
            except ContextOverflow:
                if len(asked.images) < 2:
                    raise
                half = len(asked.images) // 2
                log.warning("%d images are too many for %s: asking with %d", len(asked.images), self.model, half)
                asked = with_images(half) if with_images else replace(asked, images=asked.images[:half])
        usage.count(self.model, counts)
        if keep(answer):
            # under the request as it was first asked, so that a second run does not overflow again
            self._keep(key, answer, counts)
        return answer

    def _known(self, key: str) -> str | None:
        with self._at_cache:
            return self.cache.get(key)

    def _keep(self, key: str, answer: str, counts: dict[str, int]) -> None:
        with self._at_cache:
            self.cache.put(key, answer, counts)

    def embed(self, texts: Sequence[str], model: str, usage: Usage) -> np.ndarray:
        """Embeddings of texts by a model of the same server, shape (len(texts), dimensions).

        Texts go out in lots; a lot that has been answered is not sent again.

        Raises:
            CorpusError: as `ask`, or the server sent something else than one vector for each text.
        """
        lots = [list(texts[i : i + _TEXTS_PER_CALL]) for i in range(0, len(texts), _TEXTS_PER_CALL)]
        vectors = [vector for lot in lots for vector in self._embed(lot, model, usage)]
        if len({len(vector) for vector in vectors}) > 1:
            raise CorpusError(
                f"{self.server.name} sent vectors of different lengths: check `embedding_model` ({model!r})."
            )
        return np.array(vectors, dtype=np.float64).reshape(len(texts), -1 if texts else 0)

    def _embed(self, texts: Sequence[str], model: str, usage: Usage) -> list[list[float]]:
        key = hashlib.sha256(json.dumps(["embedding", model, list(texts)]).encode()).hexdigest()
        if (stored := self._known(key)) is not None:
            usage.count(model, None)
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
            problem = self.server.diagnosed(error, model, self._models)
        if problem is not None:
            raise problem
        if len(vectors) != len(texts) or not all(vectors):
            raise CorpusError(
                f"{self.server.name} did not send one vector for each text: check that {model!r} "
                "(`embedding_model`) is an embedding model."
            )
        reported = getattr(answer, "usage", None)
        counts = {"prompt_tokens": int(getattr(reported, "prompt_tokens", 0) or 0), "completion_tokens": 0}
        usage.count(model, counts)
        self._keep(key, json.dumps(vectors), counts)
        return vectors

    def remember(self, request: Request, answer: str) -> None:
        """Keep an answer that another request got (a second try) for this one too."""
        self._keep(self.key(request), answer, {"prompt_tokens": 0, "completion_tokens": 0})

    def key(self, request: Request) -> str:
        """Hash of all that decides the answer: images, prompt, model, parameters. Not the address, not the API key."""
        digest = hashlib.sha256()
        wording = [self.model, request.system, request.text, request.schema, self.parameters, self.image_side]
        digest.update(json.dumps(wording, sort_keys=True, default=str).encode())
        for image in request.images:
            pixels = image.convert("RGB")
            digest.update(f"{pixels.size}".encode())
            digest.update(pixels.tobytes())
        return digest.hexdigest()

    def _complete(self, request: Request) -> tuple[str, dict[str, int]]:
        client = self._connect()
        content: list[dict[str, Any]] = [{"type": "text", "text": request.text}]
        content += [
            {"type": "image_url", "image_url": {"url": data_url(image, self.image_side)}} for image in request.images
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
                    messages=_messages(request.system, content, way.system),
                    **self._response_format(request, way.format),
                    **self._parameters(way),
                )
                answer = self._content(completion)
            except Exception as error:  # every failure of the client becomes one CorpusError
                problem = self.server.diagnosed(error, models=self._models)
                status, words = getattr(error, "status_code", None), str(error)
                in_body = isinstance(error, ErrorInBody)
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
            if simpler is None or NO_MODEL.search(words):
                # raised outside `except`, so that no traceback leads to the request and its headers
                raise first
            way = simpler

    def _parameters(self, way: _Way) -> dict[str, Any]:
        """The study's own fields; `max_tokens` under its newer name where the server asked for that."""
        if not way.newer_names or "max_tokens" not in self.parameters:
            return self.parameters
        renamed = dict(self.parameters)
        return {"max_completion_tokens": renamed.pop("max_tokens"), **renamed}

    def _response_format(self, request: Request, form: int) -> dict[str, Any]:
        kind = _FORMATS[form]
        if kind == "text" or not request.schema:
            return {}
        if kind == "json_object":
            return {"response_format": {"type": "json_object"}}
        schema = {"name": "features", "strict": True, "schema": request.schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def _content(self, completion: Any) -> tuple[str, dict[str, int]]:
        said = said_by(completion)
        if said is None:
            what = self.server.scrub(str(completion)) if isinstance(completion, str) else ""
            raise CorpusError(
                f"{self.server.name} did not send a Chat Completions answer{f' but {what!r}' if what else ''}: check "
                "`base_url` (most servers want it to end in /v1)."
            )
        if said.error:
            raise ErrorInBody(said.error, said.status)
        if said.refusal:
            raise Refused(
                f'The model {self.model!r} refused to describe the images ("{self.server.scrub(said.refusal)}"): use '
                "another model."
            )
        if said.cut and not said.text.strip():
            spent = "thinking" if said.thought else "nothing that can be read"
            raise CorpusError(
                f"The model {self.model!r} used all its tokens for {spent}: raise `max_tokens` (or lower "
                "`reasoning_effort`) in `parameters`."
            )
        answer = said.text + (CUT_OFF if said.cut else "")
        reported = getattr(completion, "usage", None)
        counts = {name: int(getattr(reported, name, 0) or 0) for name in ("prompt_tokens", "completion_tokens")}
        return redact(answer), counts

    def _connect(self) -> openai.OpenAI:
        with self._lock:
            if self._client is None:
                import openai

                class OneHost(SameHost, openai.DefaultHttpxClient):
                    """Pictures and keys go to the host that was named and to no other."""

                key, address = self.api_key(), self.server.address
                try:
                    self._client = openai.OpenAI(
                        # a server without keys still gets a header, since the client insists on one
                        api_key=key or "none",
                        base_url=self.base_url,
                        max_retries=self.retries,
                        timeout=self.timeout_s,
                        http_client=OneHost(trust_env=environment_counts(address)),
                    )
                except Exception as error:  # an address or a proxy that cannot be
                    remedy = proxy_remedy(error) or "correct `base_url`"
                    why = self.server.scrub(unreachable(error, address))
                    raise CorpusError(f"{self.server.name} cannot be asked ({why}): {remedy}.") from None
            return self._client

    def api_key(self) -> str | None:
        """The key for the server; None where it gets none.

        Raises:
            CorpusError: the environment variable that is named for it is empty.
        """
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise CorpusError(
                f"The environment variable {self.key_env} holds no API key for the model {self.model!r}: set it, or "
                f"{self.instead}."
            )
        remember(key)
        return key

    def _models(self) -> str:
        """Which models there are, where the server says so."""
        import openai

        try:
            names = [model.id for model in self._connect().with_options(max_retries=0, timeout=5).models.list().data]
        except (openai.OpenAIError, CorpusError, AttributeError, TypeError, ValueError):
            return ""
        return f" (it has {', '.join(map(self.server.scrub, sorted(names)[:8]))})" if names else ""


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
