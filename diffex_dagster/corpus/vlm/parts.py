"""What every kind of vision-language model has in a study file, and what is said of a server; see `vlm.kinds`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from diffex_dagster.corpus.vlm.protocol import Proposer
from diffex_dagster.corpus.vlm.usage import AnswerCache, MemoryCache
from diffex_dagster.utils import config

Price = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Where(config.Where):
    """Where a vision-language model is in a study file, and what it works with.

    Attributes:
        place: what the deployment says of servers: `base_url`, `key_env`.
        cache: where answers are kept.
    """

    field: str = "corpus.vlm"
    place: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cache: AnswerCache = dataclasses.field(default_factory=MemoryCache)


class VLMPart(config.KindPart):
    """A kind of vision-language model, which proposes the corpus.

    A kind is a subclass beside its adapter, with `kind` and `build`, and one line in `corpus.vlm.kinds`.
    """

    live: ClassVar[bool] = False  # True: it is asked over a network, and what only reads takes the answer that is kept

    def build(self, where: Where) -> Proposer:
        """A proposer. No model is asked before `propose` is called.

        Raises:
            DiffExError: it cannot be made.
        """
        raise NotImplementedError

    def placed(self, where: Where) -> Self:
        """The same at the address that this deployment says; its own options say so where it has no server."""
        return self

    def files(self) -> tuple[Path, ...]:
        """The files beside the study file that its proposal is made from."""
        return ()

    @property
    def refines(self) -> bool:
        """Whether it can be asked for the next attributes to try (`corpus.refining`)."""
        return self.live

    def server(self) -> ServerOptions | None:
        """The server that it asks; None where it asks none."""
        return None


def key_variable(base_url: str | None, key_env: str | None) -> str | None:
    """The environment variable with the key for a server: the one that is named for it, OPENAI_API_KEY for OpenAI's own
    address (`base_url` None), and none for any other: a key is never sent to a server that it was not named for.
    """
    return key_env if key_env or base_url else "OPENAI_API_KEY"


class ServerOptions(config.Part):
    """A model behind a server that speaks the Chat Completions API, and how it is asked.

    Whatever asks one (`client.Client`) has these options, under these names.
    """

    model: str = Field(description="the model's name, as the server knows it")
    base_url: str | None = Field(
        None, description="the API's address, ending in /v1 for most servers; OpenAI's own when left out"
    )
    key_env: str | None = Field(
        None, description="environment variable with the key; OPENAI_API_KEY for OpenAI's own address when left out"
    )
    image_side: int = Field(512, ge=16, le=8192, description="images are scaled down to this many pixels a side")
    parallel: int = Field(4, ge=1, description="calls under way at the same time")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="further fields of the request: temperature, ..."
    )
    prices: dict[str, tuple[Price, Price]] = Field(
        default_factory=dict, description="US dollars for a million tokens sent and received, by model"
    )
    retries: int = Field(4, ge=0, description="after 429, 5xx or a timeout, with back-off")
    timeout_s: float = Field(120.0, gt=0, le=86400, description="of one try")

    @model_validator(mode="before")
    @classmethod
    def _a_key_for_openai(cls, fields: Any) -> Any:
        """Without `key_env`, OpenAI's own address gets OPENAI_API_KEY, and any other server gets no key."""
        if not isinstance(fields, dict):
            return fields
        return {**fields, "key_env": key_variable(fields.get("base_url"), fields.get("key_env"))}

    def moved(self, place: Mapping[str, Any]) -> Self:
        """The same at another address, with the key that was named for it: `base_url`, `key_env`, or one of them.

        A key is never sent to a server that it was not named for: another address comes with a key of its own, or none.
        """
        if place.get("base_url") is None and place.get("key_env") is None:
            return self
        if place.get("base_url") is None:
            return self.model_copy(update={"key_env": place["key_env"]})
        return self.model_copy(update={"base_url": place["base_url"], "key_env": place.get("key_env")})
