"""What a study file says of its target, as the measures read it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from diffex_dagster.utils.config import Part, Reference


def as_text(value: Any) -> Any:
    """A class name as YAML reads it: a whole number is the text that it was written as."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{value!r} is no class name; put it in quotes")


Label = Annotated[str, BeforeValidator(as_text)]


class TargetFields(Part):
    """The fields of a target. `classifying.parts.Target` adds the names that a measure can have, and what follows."""

    later: ClassVar[frozenset[str]] = frozenset({"labels", "values", "name", "unit"})

    label: Label = Field("", description="the class (or regression output) that is explained")
    labels: tuple[Label, ...] = Field((), description="several classes as one: the sum of their probabilities")
    measure: str = Field("probability", description="one of `measures.kinds`")
    against: Label | None = Field(None, description="the other class of a margin")
    threshold: float | None = Field(
        None, description="an image flips when its measure crosses this; when left out, when its class changes"
    )
    function: Reference | None = Field(
        None,
        description="`module:function` from outputs (N, C), as the classifier returns them, and labels to the measure",
    )
    values: dict[Label, float] | None = Field(
        None, description="of expected: what each class stands for; its own name where that is a number"
    )
    name: str | None = Field(None, description="what is measured, in words: age")
    unit: str | None = Field(None, description="of the measure: years")
