"""The kinds of classifiers that a study file can name: each import below is one.

A new kind is one file, with what the study file says of it (a `ClassifierPart` with its own `kind` and `build`) and the
adapter that this makes, and one line here. The modules are read with every study file: they load no model library
before a classifier is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from diffex_dagster.classifying.clip_adapter import ClipPart as ClipPart
from diffex_dagster.classifying.http_adapter import HttpPart as HttpPart
from diffex_dagster.classifying.onnx_adapter import OnnxPart as OnnxPart
from diffex_dagster.classifying.parts import ClassifierPart
from diffex_dagster.classifying.python_adapter import PythonPart as PythonPart
from diffex_dagster.classifying.timm_adapter import TimmPart as TimmPart
from diffex_dagster.classifying.torch_file_adapter import TorchFilePart as TorchFilePart
from diffex_dagster.classifying.transformers_adapter import TransformersPart as TransformersPart
from diffex_dagster.utils.config import kinds_in, one_of

KINDS = kinds_in(globals(), ClassifierPart)
SHORT_FORMS = {kind: part.short for part in KINDS for kind in part.kinds() if part.short}
"""What a kind's own name stands for: {python: module:callable} means {kind: python, callable: module:callable}."""


def _long_form(value: Any) -> Any:
    if isinstance(value, dict) and "kind" not in value:
        for kind in SHORT_FORMS.keys() & value.keys():
            rest = {key: given for key, given in value.items() if key != kind}
            return {"kind": kind, SHORT_FORMS[kind]: value[kind], **rest}
    return value


if TYPE_CHECKING:
    AnyClassifierPart = ClassifierPart
else:
    AnyClassifierPart = Annotated[one_of(KINDS), BeforeValidator(_long_form)]
