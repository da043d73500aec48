"""A classifier behind an address: pictures as JSON, a batch a request, asked again when the service stumbles."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import httpx
import numpy as np
from PIL import Image
from pydantic import Field
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from diffex_dagster.classifying.base import BatchedClassifier
from diffex_dagster.classifying.parts import ClassifierPart, Labels, Where
from diffex_dagster.classifying.preprocessing import read_labels
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.errors import ClassifierError, passing
from diffex_dagster.utils import web
from diffex_dagster.utils.secrets import redact, remember, remember_address

_FIELDS = {"plain": ("images", "outputs"), "kserve": ("instances", "predictions")}
_LONGEST_WAIT = 30.0  # seconds between two attempts, whatever Retry-After says


class HttpPart(ClassifierPart):
    """A service that answers with one row of outputs for each picture."""

    service: ClassVar[bool] = True
    short: ClassVar[str] = "url"

    kind: Literal["http"] = "http"
    url: str = Field(pattern=r"^https?://")
    labels: Labels
    format: Literal["plain", "kserve"] = Field(
        "plain",
        description='plain: {"images": [base64 PNG]} -> {"outputs": [[...]]}; kserve (also TensorFlow Serving): '
        '{"instances": [{"b64": ...}]} -> {"predictions": [[...]]}',
    )
    outputs: Literal["sigmoid", "logits", "probabilities"] = "probabilities"
    key_env: str | None = Field(None, description="environment variable that holds a bearer token")
    version: str = Field("", description="say here when the model behind the address changes: scores are kept by it")
    parameters: dict[str, Any] = Field(default_factory=dict, description="further fields of the request")
    timeout_s: float = Field(60.0, gt=0, le=86400)
    retries: int = Field(4, ge=0, description="after 429, 5xx, a timeout or a lost connection")

    def build(self, where: Where) -> Classifier:
        """An `HttpClassifier`, at the address of this deployment."""
        written = str(where.written.get("url", self.url))
        known_as = shown_address(self.url) if written == self.url else written
        labels = where.path(self.labels) if isinstance(self.labels, Path) else self.labels
        return HttpClassifier(self.model_copy(update={"labels": labels}), where.url, known_as)


class HttpClassifier(BatchedClassifier):
    """Sends pictures as base64 PNG; takes rows of numbers, or lists of {"label", "score"}, back.

    Args:
        part: what a study file says of it. The token in `key_env` is never shown; `version` is part of the fingerprint,
            since an address does not say which weights are behind it.
        url: where requests are posted to; the part's own when None.
        known_as: stands for the address in the fingerprint where `version` says what is behind it: one model that is
            served at several addresses is one classifier.
    """

    networked = True  # nothing is gained by asking from several processes, which may not have its key

    def __init__(self, part: HttpPart, url: str | None = None, known_as: str | None = None) -> None:
        self.part, self.url, self.known_as = part, url or part.url, known_as
        super().__init__(shown_address(self.url), part.batch_size, part.outputs)
        remember_address(self.url)

    def _labels(self) -> tuple[str, ...]:
        return read_labels(self.part.labels)

    def _identity(self) -> Any:
        name = self.known_as if self.known_as and self.part.version else self.name
        return name, self.part.version, self.labels, self.part.format, self.part.parameters

    def _outputs(self, pictures: list[Image.Image]) -> np.ndarray:
        sent, received = _FIELDS[self.part.format]
        images: list[Any] = [_png(picture) for picture in pictures]
        if self.part.format == "kserve":
            images = [{"b64": image} for image in images]
        answer = self._post({**self.part.parameters, sent: images})
        rows = answer.get(received) if isinstance(answer, dict) else None
        if not isinstance(rows, list) or len(rows) != len(pictures):
            shown = redact(json.dumps(answer, default=str, ensure_ascii=False))[:160]
            got = f"{len(rows)} rows" if isinstance(rows, list) else f"none ({shown})"
            raise ClassifierError(
                f'{self.name}: the answer must hold "{received}" with one row for each of {len(pictures)} pictures, '
                f"and holds {got}; check url and format"
            )
        try:
            return np.array([self._row(row) for row in rows], dtype=np.float64)
        except (TypeError, ValueError, KeyError) as error:
            raise ClassifierError(
                f'{self.name}: a row of "{received}" is neither numbers nor a list of label and score ({error!r}); '
                "check format and labels"
            ) from error

    def _row(self, row: Any) -> list[float]:
        if isinstance(row, list) and row and isinstance(row[0], dict):
            scores = {each["label"]: float(each["score"]) for each in row}
            if missing := [label for label in self.labels if label not in scores]:
                raise ClassifierError(
                    f"{self.name}: the answer has no score for {missing[0]!r}; it has {', '.join(map(str, scores))}: "
                    "write labels as the service does, and let it answer with all of them (not the best few)"
                )
            return [scores[label] for label in self.labels]
        return [float(value) for value in row] if isinstance(row, list) else [float(row)]

    def _post(self, body: Mapping[str, Any]) -> Any:
        headers: dict[str, str] = {}
        if self.part.key_env:
            key = os.environ.get(self.part.key_env)
            if not key:
                raise ClassifierError(
                    f"{self.name}: key_env: the environment variable {self.part.key_env} is not set; export it"
                )
            headers["Authorization"] = f"Bearer {key}"
            remember(key)
        attempts = Retrying(
            retry=retry_if_exception(_passes),
            stop=stop_after_attempt(self.part.retries + 1),
            wait=_wait,
            reraise=True,
        )
        try:
            with web.client(self.url, timeout=self.part.timeout_s) as client:
                for attempt in attempts:
                    with attempt:
                        response = client.post(self.url, json=body, headers=headers)
                        response.raise_for_status()
            return response.json()
        except httpx.HTTPStatusError as error:
            if (elsewhere := web.redirected_to(error.response)) is not None:
                raise ClassifierError(
                    f"{self.name}: the service redirects to {elsewhere}, and no picture was sent there; set url to "
                    "that address if it is the one you mean"
                ) from None
            shown = redact(" ".join(error.response.text.split()))[:200]
            refused = ClassifierError(
                f"{self.name}: the service answered with status {error.response.status_code} ({shown!r}); check url, "
                "key_env and the service's log"
            )
            raise (passing(refused) if _passes(error) else refused) from error
        except json.JSONDecodeError as error:
            raise ClassifierError(f"{self.name}: the answer is not JSON; check the url") from error
        except Exception as error:  # httpx's, or a proxy or an address that cannot be used
            remedy = web.proxy_remedy(error) if web.environment_counts(self.url) else None
            unreachable = ClassifierError(
                f"{self.name}: the service cannot be reached ({web.unreachable(error, self.url)}); start it, or "
                f"correct the url{f'; {remedy}' if remedy else ''}"
            )
            raise (passing(unreachable) if _passes(error) else unreachable) from None


def shown_address(url: str) -> str:
    """An address without the password, or the token in its query, that it may carry."""
    address = httpx.URL(url)
    return f"{address.scheme}://{address.netloc.decode()}{address.path}"


def _png(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")  # lossless: the service sees the pixels that other adapters see
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _passes(error: BaseException) -> bool:
    """Whether a failure may pass by itself."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


def _wait(state: RetryCallState) -> float:
    """Seconds until the next attempt: what the service asks for, else growing, with some chance in it."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, httpx.HTTPStatusError):
        asked = error.response.headers.get("Retry-After", "")
        if asked.isdigit():
            return min(float(asked), _LONGEST_WAIT)
    return wait_exponential_jitter(initial=0.25, max=_LONGEST_WAIT)(state)
