"""What can go wrong between a vision-language model's server and us, each as one sentence with a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from diffex_dagster.corpus.vlm.messages import error_words
from diffex_dagster.corpus.wording import tidy
from diffex_dagster.errors import CorpusError, passing
from diffex_dagster.utils.secrets import redact
from diffex_dagster.utils.web import environment_counts, proxy_remedy, redirected_to, unreachable

OPENAI = "https://api.openai.com/v1"
_OVERFLOW = re.compile(
    r"context_length_exceeded|context (length|window|size)|maximum context|too many (tokens|images)|prompt is too long|"
    r"exceeds? the (available|maximum|model)|at most \d+ image|request (entity )?too large",
    re.IGNORECASE,
)
NO_MODEL = re.compile(
    r"model_not_found|no such model|model\b.{0,120}\b(not (exist|found|loaded|available)|unknown)", re.IGNORECASE
)


class ContextOverflow(CorpusError):
    """The images and the text together are more than the model takes."""


class Refused(CorpusError):
    """The model will not describe these images."""


class ErrorInBody(Exception):
    """A server answered with status 200 and an error in the body, as gateways do."""

    def __init__(self, words: str, status: int | None) -> None:
        super().__init__(words)
        self.body, self.status_code = {"error": {"message": words}}, status


@dataclass(frozen=True)
class Server:
    """A server and how it is asked, as far as messages need it; see `client.Client` for the fields."""

    base_url: str | None
    model: str
    key_env: str | None
    retries: int
    timeout_s: float

    @property
    def address(self) -> str:
        """Where requests go."""
        return self.base_url or OPENAI

    @property
    def name(self) -> str:
        """What messages call it: without a user name, password or query that somebody put into the address."""
        return re.sub(r"//[^/@]*@", "//", self.base_url).partition("?")[0] if self.base_url else "OpenAI"

    def scrub(self, text: str) -> str:
        """A server's words, made short and without the key: some repeat it, or its first and last letters."""
        line = re.sub(r"\b(sk|key|Bearer)[-_ ][\w*.-]{6,}", "***", redact(tidy(text)))
        return line if len(line) <= 160 else line[:159] + "…"

    def diagnosed(self, error: Exception, model: str | None = None, models: Callable[[], str] = str) -> CorpusError:
        """What went wrong in one sentence with a remedy.

        Args:
            model: where it is not the one of most requests.
            models: says which models there are, as the end of a clause; asked where the model is missing.
        """
        import openai

        said, status = self._sentence(error, model, models), getattr(error, "status_code", None)
        away = isinstance(error, openai.APIConnectionError)  # a timeout is one
        busy = isinstance(status, int) and (status in (408, 429) or status >= 500)
        return passing(said) if (away or busy) and not isinstance(said, ContextOverflow) else said

    def _sentence(self, error: Exception, model: str | None, models: Callable[[], str]) -> CorpusError:
        import openai

        field = "model" if model is None else "embedding_model"
        model = model or self.model

        if isinstance(error, CorpusError):
            return error
        status = getattr(error, "status_code", None)
        said = self.scrub(error_words(getattr(error, "body", None)) or str(error))
        if isinstance(error, openai.APITimeoutError):
            return CorpusError(
                f"{self.name} did not answer within {self.timeout_s:g} s, {self.retries + 1} times: raise "
                "`timeout_s`, or send fewer images a call."
            )
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            why = self.scrub(unreachable(cause, self.address))
            remedy = proxy_remedy(cause) if environment_counts(self.address) else None
            return CorpusError(
                f"{self.name} cannot be reached ({why}): start the server, or correct `base_url`"
                + (f"; {remedy}." if remedy else ".")
            )
        if (
            elsewhere := redirected_to(error.response) if isinstance(error, openai.APIStatusError) else None
        ) is not None:
            return CorpusError(
                f"{self.name} redirects to {elsewhere}, and nothing was sent there: name that address as `base_url` "
                "if it is the one you mean."
            )
        if status in (401, 403):
            return CorpusError(
                f"{self.name} does not accept the key in the environment variable {self.key_env}: set a valid "
                f'key with access to {model!r} (it said "{said}").'
                if self.key_env
                else f"{self.name} asks for an API key: name its environment variable as `key_env` in the study "
                f'(it said "{said}").'
            )
        if status == 429:
            return CorpusError(
                f"{self.name} still refuses for too many requests or no quota after {self.retries} retries "
                f"({said}): wait, lower the number of parallel calls, or check the account."
            )
        if status == 413 or _OVERFLOW.search(str(error)):
            return ContextOverflow(
                f"The request does not fit into the context of {model!r} ({said}): lower `images_per_call`, "
                "`image_side` or the context budget."
            )
        if status == 404 or NO_MODEL.search(str(error)):
            named = NO_MODEL.search(str(error)) or not said
            what = f"has no model {model!r}" if named else f"has nothing at that address or no model {model!r} ({said})"
            return CorpusError(
                f"{self.name} {what}{models()}: correct `{field}`, or `base_url` if the API is elsewhere."
            )
        if status is not None and status >= 500:
            return CorpusError(
                f"{self.name} failed {self.retries + 1} times (status {status}: {said}): try again later, or look "
                "into the server's log."
            )
        return CorpusError(f"{self.name} did not accept the request ({said}): check `{field}` and `parameters`.")
