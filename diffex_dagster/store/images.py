"""Rows of sample images, and whether pictures are what they were.

A picture is written to disk before the row that names it: a killed run loses at most one batch. A row is a promise that
its picture is there and is what it was. Where that does not hold any more (a file was lost or altered), the row counts
as missing: the picture is made again, and only it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from diffex_dagster.errors import StoreError
from diffex_dagster.store.connection import Connection
from diffex_dagster.store.database import Database
from diffex_dagster.store.files import PictureFiles, Stamp, StoredPicture, StoredPictures
from diffex_dagster.store.keys import image_key
from diffex_dagster.store.places import AT_ONCE, PicturePlace
from diffex_dagster.store.tables import Tables
from diffex_dagster.utils.hashing import digest

USERS = "users"
"""Beside `pictures` in a place that several databases may use: an empty file for each of them."""


class ImageTables(Tables):
    """`images`, `samples`, `image_columns` and `stamps`.

    Args:
        database: that has the tables.
        pictures: the folder that holds `pictures/`, or the address of a bucket that does.
    """

    def __init__(self, database: Database, pictures: Path | str | PicturePlace) -> None:
        super().__init__(database)
        self.pictures = PictureFiles(pictures)
        self._sound: dict[str, Stamp] = {}  # picture files whose content is known to be right
        self._signed = False

    @property
    def shares_pictures(self) -> bool:
        """Whether other databases may name pictures where these are."""
        return True

    def put_images(self, pictures: Mapping[str, Image.Image]) -> dict[str, str]:
        """Keep prepared sample images (name -> picture); returns name -> image key."""
        self._sign()
        names, rows = list(pictures), list[dict[str, Any]]()
        for start in range(0, len(names), AT_ONCE):  # a few at a time: each may be decoded when it is looked up
            some = {name: pictures[name] for name in names[start : start + AT_ONCE]}
            put = zip(some.items(), self.pictures.put_all(list(some.values())), strict=True)
            rows += [
                {"image": image_key(each), "name": name, "file": file, "width": each.width, "height": each.height}
                for (name, each), file in put
            ]
        keys = {str(row["name"]): str(row["image"]) for row in rows}
        before = dict(self._existing("images", "image", keys.values(), "image, file"))
        lost = self._unsound(before.values())
        moved = [(row["file"], row["image"]) for row in rows if before.get(str(row["image"])) in lost]
        stamps = self._new_stamps(str(row["file"]) for row in rows)

        def keep(connection: Connection) -> None:
            connection.insert("images", rows)
            for change in moved:
                connection.execute("UPDATE images SET file = ? WHERE image = ?", list(change))
            connection.insert("stamps", stamps, replace=True)

        self.database.write(keep)
        return keys

    def known_images(self, keys: Sequence[str]) -> set[str]:
        """Which of these pictures (by key) are there, and are what they were."""
        rows = dict(self._existing("images", "image", keys, "image, file"))
        lost = self._unsound(rows.values())
        return {key for key, file in rows.items() if file not in lost}

    def images(self, keys: Sequence[str]) -> StoredPictures:
        """Sample images by key, in the order asked for; each is read when it is looked up."""
        rows = dict(self._existing("images", "image", keys, "image, file"))
        missing = [key for key in keys if key not in rows]
        if missing:
            raise StoreError(f"{self.place}: image {missing[0]} is not in the store; materialize sample_images again")
        if lost := sorted(self._unsound(rows.values())):
            raise StoreError(
                f"{self.pictures.place.at(lost[0])}: the picture of a sample image ({len(lost)} in all) is lost or not "
                "what it was; run the study again, or materialize sample_images: it is prepared again"
            )
        return StoredPictures({key: StoredPicture(self.pictures, rows[key]) for key in keys})

    def put_samples(self, study: str, keys: Mapping[str, str]) -> None:
        """Say which images (key -> name, in order) a study is made on."""
        rows = [
            {"study": study, "position": position, "image": key, "name": name}
            for position, (key, name) in enumerate(keys.items())
        ]

        def put(connection: Connection) -> None:
            connection.execute("DELETE FROM samples WHERE study = ?", [study])
            connection.insert("samples", rows)

        self.database.write(put)

    def put_image_columns(self, study: str, columns: Mapping[str, Mapping[str, str | None]]) -> None:
        """Say what a table tells of a study's images (key -> column -> value); nothing of those without columns."""
        rows = [
            {"study": study, "image": key, "column": name, "value": value}
            for key, row in columns.items()
            for name, value in row.items()
            if value
        ]

        def put(connection: Connection) -> None:
            connection.execute("DELETE FROM image_columns WHERE study = ?", [study])
            connection.insert("image_columns", rows)

        if rows or self.image_columns(study):
            self.database.write(put)

    def image_columns(self, study: str) -> dict[str, dict[str, str]]:
        """Image key -> column -> value, of the images of which a table says something."""
        found: dict[str, dict[str, str]] = {}
        statement = 'SELECT image, "column", value FROM image_columns WHERE study = ? ORDER BY image, "column"'
        for image, column, value in self.rows(statement, [study]):
            found.setdefault(image, {})[column] = value
        return found

    def samples(self, study: str) -> dict[str, str]:
        """Image key -> name, in order.

        Raises:
            StoreError: the study's images have not been read yet.
        """
        found = self.rows("SELECT image, name FROM samples WHERE study = ? ORDER BY position", [study])
        if not found:
            raise StoreError(f"{self.place}: study {study!r} has no sample images yet; materialize sample_images first")
        return dict(found)

    def sample_count(self, study: str) -> int:
        """How many sample images of a study have been read; 0 before any."""
        ((found,),) = self.rows("SELECT count(*) FROM samples WHERE study = ?", [study])
        return int(found)

    def image_name(self, key: str) -> str:
        """What a sample image is called, by its key; the key itself for one that is not here."""
        found = self._existing("images", "image", [key], "name")
        return str(found[0][0]) if found else key

    # Whether pictures are what they were

    def _unsound(self, found: Iterable[str]) -> set[str]:
        """Which of these picture files are lost or altered; see `store.files`."""
        now = self.pictures.stamps(dict.fromkeys(found))
        lost = {file for file, stamp in now.items() if stamp is None}
        unknown = [file for file in now if file not in lost and self._sound.get(file) != now[file]]
        if not unknown:
            return lost
        rows = self._existing("stamps", "file", unknown, "file, bytes, modified")
        self._sound |= {file: (size, modified) for file, size, modified in rows if now[file] == (size, modified)}
        unread = [file for file in unknown if self._sound.get(file) != now[file]]
        if not unread:
            return lost
        sound = self.pictures.sound(unread)
        self._insert("stamps", self._new_stamps(sound), replace=True)
        return lost | (set(unread) - set(sound))

    def _new_stamps(self, sound: Iterable[str]) -> list[dict[str, Any]]:
        """The rows that say that the content of these files is right as they are now."""
        now = self.pictures.stamps(dict.fromkeys(sound))
        new = {file: stamp for file, stamp in now.items() if stamp and self._sound.get(file) != stamp}
        self._sound |= new
        return [{"file": f, "bytes": size, "modified": time} for f, (size, time) in new.items()]

    def bad_pictures(self) -> tuple[list[str], list[str]]:
        """Read every picture that the database names: (lost files, altered files). Those are made again by a run."""
        with self.hold():
            rows = self.rows("SELECT DISTINCT file FROM edits UNION SELECT file FROM images ORDER BY file")
        named = [file for (file,) in rows]
        now = self.pictures.stamps(named)
        lost = [file for file in named if now[file] is None]
        there = [file for file in named if now[file] is not None]
        fine = set(self.pictures.sound(there))
        altered = [file for file in there if file not in fine]
        self.database.write(
            lambda connection: connection.execute(
                "DELETE FROM stamps WHERE file IN (SELECT unnest(?::VARCHAR[]))", [[*lost, *altered]]
            )
        )
        self._sound = {file: stamp for file, stamp in self._sound.items() if file not in {*lost, *altered}}
        self._insert("stamps", self._new_stamps(sorted(fine)), replace=True)
        return lost, altered

    # Whose pictures these are

    def _sign(self) -> None:
        """Say once, beside pictures that other databases may name too, that this one names some of them."""
        if self._signed or not self.shares_pictures:
            return
        place, mine = self.pictures.place, self._signature()
        users = {name for name, *_ in place.everything(USERS)}
        new = {mine} if users or next(self.pictures.everything(), None) is None else {mine, f"{USERS}/unknown"}
        for name in sorted(new - users):
            place.put(name, b"", lambda there: True)
        self._signed = True

    def only_user(self) -> bool:
        """Whether no other database names pictures here: a file that this one does not name is nobody's then."""
        if not self.shares_pictures:
            return True
        return {name for name, *_ in self.pictures.place.everything(USERS)} == {self._signature()}

    def nameless(self, settled: float = 0.0) -> dict[str, int]:
        """Files that no row names, and their bytes: what an interrupted run left, and what earlier results were.

        Args:
            settled: seconds ago that they were written at least; a run that is at work writes pictures before rows.
        """
        named = {file for (file,) in self.rows("SELECT file FROM edits UNION SELECT file FROM images")}
        until = time.time() - settled
        return {f: size for f, size, when in self.pictures.everything() if f not in named and when <= until}

    def _signature(self) -> str:
        ((identity,),) = self.rows("SELECT id FROM store_identity")
        return f"{USERS}/{digest(identity, self.place)}"
