"""Rows of what a study edits, and with what: VLM answers, corpus versions, gates, options of the editor."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from diffex_dagster.corpus.tree import Corpus, Drop, Feature
from diffex_dagster.editing.calibration import METHOD, Choice, Try, Wanted
from diffex_dagster.editing.image_prompts import ImagePrompt
from diffex_dagster.editing.vocabulary import FrozenVocabulary, VocabularyGroup
from diffex_dagster.errors import StoreError
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.tables import Tables
from diffex_dagster.utils.secrets import redact


class CorpusTables(Tables):
    """Tables of the corpus (`answers` to `gates`), and of how edits are made (`source_prompts` to `tries`)."""

    # Answers of a VLM

    def get(self, key: str) -> str | None:
        """The stored answer to a request, or None."""
        rows = self._existing("answers", "request", [key], "answer")
        return rows[0][0] if rows else None

    def put(self, key: str, answer: str, usage: Mapping[str, Any]) -> None:
        """Keep the answer to a request, without the secrets that a server may have repeated in it."""
        self._insert("answers", [{"request": key, "answer": redact(answer), "usage": json.dumps(dict(usage))}])

    # Corpus

    def put_corpus(self, study: str, corpus: Corpus) -> None:
        """Keep one version of a study's corpus."""
        version = {"study": study, "corpus_version": corpus.version}
        self._insert(
            "features",
            [
                {
                    **version, "feature": f.id, "position": i, "level": f.level, "name": f.name, "prompt": f.prompt,
                    "direction": f.direction, "editable": f.editable, "support": f.support, "region": f.region,
                    "source": f.source, "exclusive": f.exclusive,
                }
                for i, f in enumerate(corpus.walk())
            ],
        )  # fmt: skip
        forget = "DELETE FROM drops WHERE study = ? AND corpus_version = ?"
        self.database.write(
            lambda c: c.execute(forget, list(version.values()))
        )  # by other drops the same tree: the last count
        self._insert("drops", [{**version, "name": drop.name, "reason": drop.reason} for drop in corpus.drops])

    def set_current(self, study: str, what: str, version: str) -> None:
        """Say which version of something ("proposal", "corpus") a study uses now."""
        self._insert("currents", [{"study": study, "what": what, "version": version}], replace=True)

    def current(self, study: str, what: str) -> str | None:
        """The version of something that a study uses now; None before there is one."""
        found = self.rows("SELECT version FROM currents WHERE study = ? AND what = ?", [study, what])
        return str(found[0][0]) if found else None

    def current_corpus(self, study: str, what: str = "corpus") -> Corpus:
        """The corpus (or the VLM's proposal) that a study uses now.

        Raises:
            StoreError: there is none yet.
        """
        with self.hold():
            found = self.rows(
                """SELECT version, name, reason FROM currents c
                LEFT JOIN drops d ON d.study = c.study AND d.corpus_version = c.version
                WHERE c.study = ? AND c.what = ? ORDER BY name""",
                [study, what],
            )
            if not found:
                stage = "corpus" if what == "corpus" else "vlm_corpus"
                raise StoreError(f"{self.place}: study {study!r} has no {what} yet; materialize {stage} first")
            drops = tuple(Drop(name, reason) for _, name, reason in found if name is not None)
            return Corpus(self._groups(study, found[0][0]), drops)

    def corpus_version(self, study: str, version: str) -> Corpus:
        """One version of a study's corpus, by its hash or the beginning of it.

        Raises:
            StoreError: there is none, or several begin so; lists what there is.
        """
        found = self.rows("SELECT DISTINCT corpus_version AS v FROM features WHERE study = ? ORDER BY v", [study])
        known = [version for (version,) in found]
        matching = [v for v in known if v.startswith(version)]
        if len(matching) != 1:
            raise StoreError(f"{self.place}: no single corpus version of {study!r} begins with {version!r}; there are "
                             f"{', '.join(known) or 'none'}")  # fmt: skip
        drops = self.rows(
            "SELECT name, reason FROM drops WHERE study = ? AND corpus_version = ? ORDER BY name", [study, matching[0]]
        )
        return Corpus(self._groups(study, matching[0]), tuple(Drop(*drop) for drop in drops))

    @cached_property
    def _groups_of(self) -> dict[tuple[str, str], tuple[Feature, ...]]:
        """(study, corpus version) -> its groups, of those that were read: a version is a hash of all that they say."""
        return {}

    def _groups(self, study: str, version: str) -> tuple[Feature, ...]:
        if not self._groups_of.get((study, version)):
            rows = self.rows(
                """SELECT feature, name, prompt, direction, editable, support, region, source, exclusive FROM features
                WHERE study = ? AND corpus_version = ? ORDER BY position""",
                [study, version],
            )
            self._groups_of[study, version] = _tree(rows)
        return self._groups_of[study, version]

    def put_gates(self, identity: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep which groups the beam kept; `identity` has study, classifier, editor and corpus_version."""
        self._insert("gates", [{**identity, **row} for row in rows], replace=True)

    # What pictures are described in, and options of the editor

    def source_prompts(self, study: str, editor: str) -> FrozenVocabulary | None:
        """The words that a study's pictures are described in; None before anybody has looked for them.

        Args:
            editor: fingerprint of the editor without them.
        """
        found = self.rows(
            "SELECT words, used, why, left_out, corpus_version FROM source_prompts WHERE study = ? AND editor = ?",
            [study, editor],
        )
        if not found:
            return None
        words, used, why, left_out, corpus = found[0]
        groups = {name: VocabularyGroup.model_validate(group) for name, group in json.loads(words).items()}
        return FrozenVocabulary(groups, used, why, json.loads(left_out), corpus)

    def edited_for(self, study: str, editor: str) -> bool:
        """Whether edits of an editor (fingerprint) that the store holds were made for this study.

        Edits are kept for everybody: they are this study's where it has results that came of them, or where the store
        has no other study.
        """
        found = self.rows(
            """SELECT (SELECT count(*) FROM calibrations WHERE study = ? AND editor = ?)
            + (SELECT count(*) FROM gates WHERE study = ? AND editor = ?)
            + (SELECT count(*) FROM rankings WHERE study = ? AND editor = ?),
            (SELECT count(*) FROM samples WHERE study <> ?)""",
            [*[study, editor] * 3, study],
        )
        own, others = found[0]
        return bool(own) or not others

    def put_source_prompts(self, study: str, editor: str, found: FrozenVocabulary) -> None:
        """Keep these words, in place of those that there are."""
        words = {name: group.model_dump(mode="json") for name, group in found.words.items()}
        row = {
            "study": study, "editor": editor, "words": json.dumps(words), "used": found.used, "why": found.why,
            "left_out": json.dumps(dict(found.left_out)), "corpus_version": found.corpus,
        }  # fmt: skip
        self._insert("source_prompts", [row], replace=True)

    def image_prompts(self, images: Iterable[str], describer: str) -> dict[str, ImagePrompt]:
        """Image (by key) -> what it shows, of those of which that is known.

        Args:
            describer: hash of all that decides what is said of a picture (`PromptsImages.describer`).
        """
        found = self._existing("descriptions", "image", images, "image, words, cut", describer=describer)
        return {
            image: ImagePrompt(tuple((group, word) for group, word in json.loads(words)), cut)
            for image, words, cut in found
        }

    def put_image_prompts(self, found: Mapping[str, ImagePrompt], describer: str) -> None:
        """Keep what images show; what is known of one already stays, since edits were made by it."""
        rows = [
            {
                "image": image,
                "describer": describer,
                "words": json.dumps(each.shows, ensure_ascii=False),
                "cut": each.cut,
            }
            for image, each in found.items()
        ]
        self._insert("descriptions", rows)

    def put_calibration(
        self, study: str, editor: str, choices: Mapping[Wanted, Choice], tries: Sequence[Try], final: Collection[str]
    ) -> None:
        """Keep what a study edits prompts with, and the tries that say so; `final` are the last settings tried."""
        of = {"study": study, "editor": editor}
        chosen = [
            {**of, "prompt": wanted.prompt, "direction": wanted.direction, **vars(choice)}
            for wanted, choice in choices.items()
        ]
        tried = [
            {
                **of, "prompt": each.wanted.prompt, "direction": each.wanted.direction, "group": each.wanted.group,
                "region": each.wanted.region, "image": each.image, "setting": each.setting, "took": each.succeeded,
                "harm": each.harm, "final": each.setting in final, "method": each.method,
            }
            for each in tries
        ]  # fmt: skip

        def put(connection: Connection) -> None:
            connection.insert("calibrations", chosen, replace=True)
            connection.insert("tries", tried, replace=True)

        self.database.write(put)

    def forget_calibration(self, study: str, editor: str) -> None:
        """Forget what prompts are edited with; the edits that it was found by stay."""

        def forget(connection: Connection) -> None:
            for table in ("calibrations", "tries"):
                connection.execute(f"DELETE FROM {table} WHERE study = ? AND editor = ?", [study, editor])  # noqa: S608

        self.database.write(forget)

    def calibration(self, study: str, editor: str) -> dict[tuple[str, str], Choice]:
        """(prompt, direction) -> what a study edits it with, for those that have been calibrated."""
        rows = self.rows(
            """SELECT prompt, direction, setting, success, harm, tries, why, coalesce(method, 0) FROM calibrations
            WHERE study = ? AND editor = ? ORDER BY prompt, direction""",
            [study, editor],
        )
        return {(prompt, direction): Choice(*choice) for prompt, direction, *choice in rows}

    def tries(self, study: str, editor: str) -> tuple[list[Try], list[str]]:
        """The tries of a study by whatever method, and the settings that were tried last by the one in use."""
        rows = self.rows(
            """SELECT prompt, direction, "group", region, image, setting, took, harm, coalesce(method, 0), final
            FROM tries WHERE study = ? AND editor = ? ORDER BY prompt, direction, image, setting""",
            [study, editor],
        )
        found = [Try(Wanted(*row[:4]), *row[4:9]) for row in rows]
        return found, sorted({row[5] for row in rows if row[8] == METHOD and row[9]})


def _tree(rows: Sequence[tuple[Any, ...]]) -> tuple[Feature, ...]:
    """Rows of `features` (parents before children) -> the groups; an id is its path."""
    below: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        below.setdefault(row[0].rpartition("/")[0], []).append(row)

    def children(parent: str) -> tuple[Feature, ...]:
        return tuple(
            Feature(row[0], row[1], row[2], row[3], row[4], children(row[0]), *row[5:9])
            for row in below.get(parent, ())
        )

    return children("")
