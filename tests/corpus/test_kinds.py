"""A kind of VLM is one file and one line: both are written here, and a study file can name the kind."""

from __future__ import annotations

from pathlib import Path

from tests.support.kinds import asked_of_a_package_with
from tests.support.toys import write_study

VLM = '''
"""Names what it is told to."""

from pathlib import Path
from typing import Literal

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.corpus.vlm.parts import VLMPart, Where
from diffex_dagster.corpus.vlm.protocol import Help, Proposal
from diffex_dagster.corpus.vlm.usage import Usage


class ListVLM(VLMPart):
    """A list of names in a file."""

    kind: Literal["list"] = "list"
    names: Path
    leak: str

    def build(self, where: Where) -> "ListProposer":
        return ListProposer(where.path(self.names), self.leak)

    def files(self) -> tuple[Path, ...]:
        return (self.names,)


class ListProposer:
    def __init__(self, file: Path, leak: str) -> None:
        self.file, self.leak = file, leak

    def new_usage(self) -> Usage:
        return Usage()

    def help(self, usage: Usage) -> Help:
        return Help(leak_check=lambda names, labels: {self.leak: "it says so"})

    def propose(self, images, request, usage=None) -> Proposal:
        names = self.file.read_text().split()
        return Proposal(Corpus(tuple(Feature(name, name.title(), name) for name in names)))
'''
ASK = """
from diffex_dagster.stages.corpus import input_files
from diffex_dagster.stages.corpus_now import corpus_now
print(heavy, [group.id for group in corpus_now(study).groups], [file.name for file in input_files(study)])
"""


def test_a_new_kind_is_one_file_and_one_line(tmp_path: Path) -> None:
    study = write_study(tmp_path / "toy", 2, corpus={"vlm": {"kind": "list", "names": "names.txt", "leak": "hat"}})
    (tmp_path / "toy" / "names.txt").write_text("beard hat glasses")
    said = asked_of_a_package_with(tmp_path, "corpus/vlm", "listed", VLM, "ListVLM", study, ASK)
    assert said == "[] ['beard', 'glasses'] ['names.txt']"
