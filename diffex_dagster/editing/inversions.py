"""Inversions kept for later: those used last in memory, and in a folder where there is one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from diffex_dagster.errors import EditorError
from diffex_dagster.utils.files import unfinished, write_atomically

if TYPE_CHECKING:
    import torch

    from diffex_dagster.editing.edit_plan import Inversion

_TENSORS = ("latents", "outputs", "noises")
_NAMES = "*.safetensors"
_WRITTEN = 3600.0  # seconds after which a file that is not whole yet was left by a run that was killed
Key = tuple[str, int]  # digest of a picture's pixels, and the seed


@dataclass
class InversionsInMemory:
    """The inversions used last, up to so many bytes."""

    limit: int
    _items: OrderedDict[Key, Inversion] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def get(self, key: Key) -> Inversion | None:
        """The inversion, if it is kept."""
        if key in self._items:
            self._items.move_to_end(key)
        return self._items.get(key)

    def put(self, key: Key, inversion: Inversion) -> None:
        """Keep an inversion; those that were not used for longest go."""
        if key in self._items:
            self._bytes -= self._items.pop(key).nbytes
        self._items[key] = inversion
        self._bytes += inversion.nbytes
        while self._bytes > self.limit and self._items:
            self._bytes -= self._items.popitem(last=False)[1].nbytes


@dataclass(frozen=True)
class InversionsOnDisk:
    """One safetensors file for each picture, seed and settings, exact (float32), up to so many bytes in all.

    Runs may share a folder, at the same time too: a file appears whole or not at all, and one that cannot be read is as
    good as none. What a killed run was writing counts, and goes after an hour.
    """

    folder: Path
    limit: int  # bytes
    settings: str  # hash of all that an inversion depends on beside picture and seed

    def get(self, key: Key, device: torch.device) -> Inversion | None:
        """The inversion on `device`, if it is kept."""
        from safetensors import SafetensorError, safe_open

        from diffex_dagster.editing.edit_plan import Inversion

        file = self._file(key)
        try:
            with safe_open(file, framework="pt", device=str(device)) as kept:
                shows = tuple((group, words) for group, words in json.loads(kept.metadata()["shows"]))
                inversion = Inversion(
                    kept.get_tensor("latents"), kept.get_tensor("outputs"), kept.get_tensor("noises"), shows
                )
            os.utime(file)  # used now
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, TypeError, ValueError, OSError):
            file.unlink(missing_ok=True)
            return None
        return inversion

    def put(self, key: Key, inversion: Inversion) -> None:
        """Keep an inversion; files that were not used for longest go.

        Raises:
            EditorError: the folder cannot be written to.
        """
        from safetensors.torch import save

        tensors = {name: getattr(inversion, name).cpu() for name in _TENSORS}
        content = save(tensors, metadata={"shows": json.dumps(inversion.shows)})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(content))
            if len(content) <= self.limit:
                write_atomically(self._file(key), content, durable=False)  # the GPU waits; `get` checks
        except OSError as error:
            raise EditorError(
                f"inversions cannot be kept in {self.folder} ({error.strerror}): "
                "correct the editor's inversion_folder, or leave it out"
            ) from error

    def _make_room(self, wanted: int) -> None:
        being_written = 0
        for file, state in _states(unfinished(self.folder, _NAMES)):
            if state.st_mtime < time.time() - _WRITTEN:
                file.unlink(missing_ok=True)
            else:
                being_written += state.st_size
        states = [(state.st_mtime_ns, state.st_size, file) for file, state in _states(self.folder.glob(_NAMES))]
        total = sum(size for _, size, _ in states) + being_written + wanted
        for _, size, file in sorted(states):
            if total <= self.limit:
                break
            file.unlink(missing_ok=True)
            total -= size

    def _file(self, key: Key) -> Path:
        digest, seed = key
        name = hashlib.sha256(f"{digest} {seed} {self.settings}".encode()).hexdigest()
        return self.folder / f"{name[:40]}.safetensors"


def _states(files: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # another run made room, or has finished it
            yield file, file.stat()


def inversion_seed(digest: str, seed: int) -> int:
    """The seed of a picture's own noise: pictures differ in it, so that an average over pictures averages the noise."""
    return int.from_bytes(hashlib.sha256(f"{digest} {seed}".encode()).digest()[:8], "big") >> 1
