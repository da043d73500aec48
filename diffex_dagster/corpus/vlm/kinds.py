"""The kinds of vision-language models that a study file can name: each import below is one.

A new kind is one file, with what the study file says of it (a `VLMPart` with its own `kind` and `build`) and the
proposer that this makes, and one line here. The modules are read with every study file: they ask nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffex_dagster.corpus.vlm.parts import VLMPart
from diffex_dagster.corpus.vlm.proposer import OpenAIVLM as OpenAIVLM
from diffex_dagster.corpus.vlm.recorded import RecordedVLM as RecordedVLM
from diffex_dagster.utils.config import kinds_in, one_of

KINDS = kinds_in(globals(), VLMPart)

if TYPE_CHECKING:
    AnyVLMPart = VLMPart
else:
    AnyVLMPart = one_of(KINDS)
"""What a study file says about a vision-language model of any kind."""
