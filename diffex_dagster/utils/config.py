"""What a user writes in a file, validated: the base of every section, and of sections that come in kinds.

A kind owns itself. What a study file says of it and how it is made from that are one class, a `KindPart` with its own
`kind` and `build`, in the file of its adapter. A family of kinds is a list of imports, the room's `kinds.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar, Union, get_args

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from diffex_dagster.utils.paths import located

Reference = Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")]
"""Code of the user's own, as `module:attribute`."""


class Part(BaseModel):
    """A piece of a study file: unknown keys are errors, values never change.

    Fields that a later version added (`later`) are left out of what is written down while they have their default:
    results are kept under hashes of it, and a new field must not make results of before look old. A field that had
    another name before (`renamed`, former -> new) is an error under its former one, which names the new one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    later: ClassVar[frozenset[str]] = frozenset()
    renamed: ClassVar[Mapping[str, str]] = {}

    def replaced(self, **fields: Any) -> Self:
        """The same with some fields of other values, validated again."""
        return type(self).model_validate({name: getattr(self, name) for name in type(self).model_fields} | fields)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, which takes any name: one that is no field is an error here.

        Raises:
            TypeError: `update` names what is no field, so that the copy would be the same as before.
        """
        if unknown := sorted(set(update or ()) - set(type(self).model_fields)):
            raise TypeError(f"{type(self).__name__} has no field {', '.join(map(repr, unknown))}")
        return super().model_copy(update=update, deep=deep)

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        return {
            name: value
            for name, value in written.items()
            if name not in self.later or getattr(self, name) != fields[name].default
        }


class KindPart(Part):
    """A section that comes in kinds; each kind gives `kind` its own name, `Literal["clip"] = "clip"`."""

    if TYPE_CHECKING:
        kind: str

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """What a study file calls it: one name, or several."""
        return get_args(cls.model_fields["kind"].annotation)


Family = TypeVar("Family")


def kinds_in(namespace: Mapping[str, Any], family: type[Family]) -> tuple[type[Family], ...]:
    """The kinds of a family among the names that a module has imported, in the order of its imports."""
    found = (each for each in namespace.values() if isinstance(each, type) and issubclass(each, family))
    return tuple(dict.fromkeys(each for each in found if each is not family))


def one_of(kinds: tuple[type[Family], ...]) -> Any:
    """The type of a field that holds one of these kinds, told apart by `kind`."""
    return Annotated[Union[kinds], Field(discriminator="kind")]  # noqa: UP007 (a tuple of classes)


@dataclass(frozen=True)
class Where:
    """Where a section of a study file is; each family adds what its kinds are made with.

    Attributes:
        folder: the study file's, which paths are relative to.
        checkpoint: resolves a hub id, or a folder beside the study file.
        field: where the section is in the study file, for messages.
    """

    folder: Path
    checkpoint: Callable[[str], str]
    field: str

    def path(self, relative: Path) -> Path:
        """A path of the study file, made absolute."""
        return located(relative, self.folder, self.field).resolve()
