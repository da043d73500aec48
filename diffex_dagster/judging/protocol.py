"""What a judge of edits is: one method that says how strongly pictures show concepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from PIL import Image

from diffex_dagster.editing.protocol import EditRequest

Pair = tuple[str, str]  # (key of a picture, prompt of a concept)


class Judge(Protocol):
    """Says how strongly a picture shows a concept. `fingerprint` covers everything that changes an answer.

    Evidence has no unit of its own: it is compared between the edit and the null edit of one image, for one concept. A
    judge may have the attributes of `Traits`, which tell more of it.
    """

    @property
    def fingerprint(self) -> str:
        """Hash of weights, options, device kind and library versions; cheap to ask for."""
        ...

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        """Evidence for each (picture, concept), a batch at a time so that each batch can be kept at once.

        Args:
            pictures: key -> RGB picture; holds every picture that a pair names.
            pairs: what to judge; pairs of one picture are cheapest side by side.

        Yields:
            Lists of (pair, evidence), every pair once.

        Raises:
            DiffExError: the model cannot be loaded.
        """
        ...


class Traits(NamedTuple):
    """What a judge may say of itself in attributes of these names.

    Attributes:
        absolute: its evidence is comparable between concepts, and 0 where a concept explains nothing; which pictures
            show a concept already is then known without edits that succeeded.
        binary: it only says yes (1) or no (0), and is taken at its word.
        networked: it asks a server and runs no model itself, so that it is not copied to workers.
    """

    absolute: bool = False
    binary: bool = False
    networked: bool = False


def traits_of(judge: object) -> Traits:
    """What a judge says of itself; what it does not say, and where there is no judge, is False."""
    return Traits(*(bool(getattr(judge, name, False)) for name in Traits._fields))


@runtime_checkable
class KnowingJudge(Judge, Protocol):
    """A judge that need not look: the editor's own, where it knows what every edit of its shows."""

    def evidence_of(self, request: EditRequest, prompt: str) -> float:
        """Evidence for a prompt in the edit of a request, in the unit of `evidence`."""
        ...


class OwnJudge(Protocol):
    """An editor that can tell whether its edits show what they were asked for; the study's default judge asks it."""

    def judge(self, draws: int) -> Judge:
        """The judge of this editor's edits.

        Args:
            draws: how many random draws a picture is judged at (`judge.draws`); more are surer and cost more.
        """
        ...
