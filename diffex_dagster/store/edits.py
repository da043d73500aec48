"""Rows of edits, and of what was measured on them: changes, scores, evidence, embeddings, attribution maps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.editing.protocol import MASK, EditRequest, FiledPicture
from diffex_dagster.effects.edit_metrics import EditMetrics
from diffex_dagster.errors import StoreError
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.images import ImageTables
from diffex_dagster.store.keys import concept_fields, edit_key

PAUSE_S = 300.0  # commits further apart than this were not made by one run: the time between them says nothing


class EditTables(ImageTables):
    """`edits`, `masks`, `changes`, `scores`, `evidence`, `embeddings` and `looks`."""

    def stored_edits(self, requests: Sequence[EditRequest], editor: str) -> dict[EditRequest, str]:
        """Which of these edits exist, and the picture file of each; one whose file was lost or altered does not."""
        keys = {edit_key(request, editor): request for request in requests}
        found = self._existing("edits", "edit", keys, "edit, file")
        lost = self._unsound(file for _, file in found)
        return {keys[key]: file for key, file in found if file not in lost}

    def edit_size(self, editor: str, image: str) -> tuple[int, int] | None:
        """Width and height of an editor's (fingerprint) edits of images of this one's size (by key), if any."""
        found = self.rows(
            """SELECT e.file FROM edits e JOIN images i USING (image) JOIN images this ON this.image = ?
            WHERE e.editor = ? AND i.width = this.width AND i.height = this.height LIMIT 8""",
            [image, editor],
        )
        lost = self._unsound(file for (file,) in found)
        sound = [file for (file,) in found if file not in lost]
        return self.pictures.get(sound[0]).size if sound else None

    def put_edits(self, edits: Sequence[tuple[EditRequest, Image.Image | FiledPicture]], editor: str) -> None:
        """Keep a batch of edits: files first, then all rows and the masks that they carry in one transaction.

        An edit that is there already stays as it is. One whose picture was lost or altered takes the new one's place,
        and where the new picture is another, what was known of the old one (scores, evidence, changes) goes.
        """
        self._sign()
        keys = {edit_key(request, editor): request for request, _ in edits}
        before = dict(self._existing("edits", "edit", keys, "edit, file"))
        lost = self._unsound(before.values())
        fresh = [(k, r, p) for k, (r, p) in zip(keys, edits, strict=True) if before.get(k) is None or before[k] in lost]
        stored = self._files({key: picture for key, _, picture in fresh})
        masks = {key: mask for key, _, picture in fresh if (mask := _mask(picture))}
        rows = [
            {
                "edit": key,
                "image": request.image,
                "concepts": json.dumps(sorted(concept_fields(c) for c in request.concepts)),
                "editor": editor,
                "seed": request.seed,
                "file": stored[key],
            }
            for key, request, _ in fresh
        ]
        others = [row for row in rows if str(row["edit"]) in before and before[str(row["edit"])] != row["file"]]
        stamps = self._new_stamps(stored.values())

        def keep(connection: Connection) -> None:
            for row in others:
                _replace_edit(connection, row)
            connection.insert("edits", rows)
            bits = [
                {"edit": key, "width": mask.width, "height": mask.height, "mask": mask.tobytes()}
                for key, mask in masks.items()
            ]
            connection.insert("masks", bits, replace=True)
            connection.insert("stamps", stamps, replace=True)

        self.database.write(keep)

    def _files(self, pictures: Mapping[str, Image.Image | FiledPicture]) -> dict[str, str]:
        """Keep pictures (key -> picture), or find those that another process has kept; key -> file."""
        filed = {key: picture for key, picture in pictures.items() if isinstance(picture, FiledPicture)}
        for picture in filed.values():
            if not self.pictures.arrived(picture):
                raise StoreError(
                    f"{self.pictures.place.at(picture.file)}: a worker wrote this picture and it is not here; name a "
                    "folder for the pictures that every machine with a worker sees, or a bucket (DIFFEX_PICTURES)"
                )
        own = {key: picture for key, picture in pictures.items() if not isinstance(picture, FiledPicture)}
        put = self.pictures.put_all(list(own.values()))
        return {key: picture.file for key, picture in filed.items()} | dict(zip(own, put, strict=True))

    def seconds_per_edit(self, editor: str) -> float | None:
        """The pace at which the edits of an editor (fingerprint) were committed; None with fewer than two batches."""
        ((seconds, edits),) = self.rows(
            """SELECT sum(gap) AS seconds, sum(n) AS edits FROM (
                SELECT n, extract(epoch FROM created) - lag(extract(epoch FROM created)) OVER (ORDER BY created) AS gap
                FROM (SELECT created, count(*) AS n FROM edits WHERE editor = ? GROUP BY created) AS batches
            ) AS gaps WHERE gap BETWEEN 0 AND ?""",
            [editor, PAUSE_S],
        )
        return float(seconds) / float(edits) if edits and edits > 0 else None

    def stored_masks(self, edits: Iterable[str]) -> dict[str, Image.Image]:
        """Where edits (by key) were allowed to change their pictures, where that is known: mode L, 255 there."""
        rows = self._existing("masks", "edit", edits, "edit, width, height, mask")
        return {
            edit: Image.frombytes("1", (width, height), bytes(bits)).convert("L") for edit, width, height, bits in rows
        }

    def stored_edit_metrics(self, edits: Iterable[str], lpips: str | None = None) -> dict[str, EditMetrics]:
        """What edits (by key) changed; with `lpips`, a backbone, only those whose LPIPS was measured with it."""
        rows = self._existing("changes", "edit", edits, "edit, strength, ssim, inside, area, lpips, lpips_net")
        return {
            edit: EditMetrics(strength, ssim, inside, area, distance if lpips else None)
            for edit, strength, ssim, inside, area, distance, net in rows
            if lpips in (None, net)
        }

    def put_edit_metrics(self, metrics: Mapping[str, EditMetrics], lpips: str | None = None) -> None:
        """Keep what edits changed (key -> change), in place of what is known; `lpips` is the backbone, if any."""
        rows = [{"edit": key, **vars(each), "lpips_net": lpips} for key, each in metrics.items()]
        self._insert("changes", rows, replace=True)

    # Scores

    def stored_scores(self, subjects: Iterable[str], classifier: str) -> dict[str, np.ndarray]:
        """Outputs of a classifier (fingerprint) on edits or images that have been scored."""
        rows = self._existing("scores", "subject", subjects, "subject, outputs", classifier=classifier)
        return {subject: np.asarray(outputs, dtype=np.float64) for subject, outputs in rows}

    def has_scores(self, classifier: str) -> bool:
        """Whether a classifier (fingerprint) has scored anything here."""
        if not self.exists():
            return False
        return bool(self.rows("SELECT 1 FROM scores WHERE classifier = ? LIMIT 1", [classifier]))

    def put_scores(self, scores: Mapping[str, np.ndarray], classifier: str) -> None:
        """Keep a classifier's outputs (subject -> logits of shape (classes,))."""
        rows = [{"subject": s, "classifier": classifier, "outputs": o.tolist()} for s, o in scores.items()]
        self._insert("scores", rows)

    # Evidence

    def stored_evidence(self, pairs: Iterable[tuple[str, str]], judge: str) -> dict[tuple[str, str], float]:
        """A judge's (fingerprint) answers on (edit, prompt) pairs that it has judged."""
        wanted = set(pairs)
        subjects = (subject for subject, _ in wanted)
        rows = self._existing("evidence", "subject", subjects, "subject, concept, value", probe=judge)
        return {(subject, concept): value for subject, concept, value in rows if (subject, concept) in wanted}

    def put_evidence(self, answers: Iterable[tuple[tuple[str, str], float]], judge: str) -> None:
        """Keep a judge's answers ((edit, prompt), evidence)."""
        rows = [{"subject": s, "concept": c, "probe": judge, "value": float(value)} for (s, c), value in answers]
        self._insert("evidence", rows)

    # Embeddings

    def stored_embeddings(self, subjects: Iterable[str], judge: str) -> dict[str, np.ndarray]:
        """How a judge (fingerprint) embeds edits: subject -> vector."""
        rows = self._existing("embeddings", "subject", subjects, "subject, vector", probe=judge)
        return {subject: np.asarray(vector, dtype=np.float64) for subject, vector in rows}

    def put_embeddings(self, vectors: Mapping[str, np.ndarray], judge: str) -> None:
        """Keep a judge's embeddings (subject -> vector)."""
        rows = [{"subject": s, "probe": judge, "vector": v.tolist()} for s, v in vectors.items()]
        self._insert("embeddings", rows)

    # Attribution maps

    def stored_attribution_maps(self, subjects: Iterable[str], classifier: str) -> dict[str, tuple[np.ndarray, float]]:
        """Grad-CAM maps of edits: subject -> (map of shape (h, w), share of the picture's side that it covers)."""
        found = self._existing("looks", "subject", subjects, 'subject, "rows", crop, map', classifier=classifier)
        return {s: (np.asarray(heat, dtype=np.float64).reshape(rows, -1), crop) for s, rows, crop, heat in found}

    def put_attribution_maps(self, maps: Mapping[str, tuple[np.ndarray, float]], classifier: str) -> None:
        """Keep Grad-CAM maps; see `stored_attribution_maps`."""
        rows = [
            {"subject": s, "classifier": classifier, "rows": len(heat), "crop": crop, "map": heat.ravel().tolist()}
            for s, (heat, crop) in maps.items()
        ]
        self._insert("looks", rows)


def _replace_edit(connection: Connection, row: Mapping[str, Any]) -> None:
    """Give an edit another picture: nothing that was measured on the old one stays."""
    key = row["edit"]
    connection.execute("UPDATE edits SET file = ? WHERE edit = ?", [row["file"], key])
    measured = ("scores", "subject"), ("evidence", "subject"), ("embeddings", "subject"), ("looks", "subject")
    for table, column in (*measured, ("changes", "edit")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", [key])  # noqa: S608 (our own names)
    if row["concepts"] == "[]":  # a null edit: what every other edit of the image is measured against
        connection.execute(
            """DELETE FROM changes WHERE edit IN (
                SELECT edit FROM edits WHERE image = ? AND editor = ? AND seed = ?)""",
            [row["image"], row["editor"], row["seed"]],
        )


def _mask(picture: Image.Image | FiledPicture) -> Image.Image | None:
    """The mask that an edited picture carries, one bit a place."""
    mask = picture.info.get(MASK)  # a file may bring anything under that name
    return mask.convert("L").point(lambda level: 255 * (level > 0), mode="1") if isinstance(mask, Image.Image) else None
