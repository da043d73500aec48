"""The demo checkpoint's edits do not depend on what else a run makes: the same files however the work is shared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.stages.edits import ensure_edits
from diffex_dagster.store import Store

AVATARS = Path(__file__).parent.parent.parent / "studies" / "avatars"
WORDS = ("a beard", "sunglasses", "a hat")


def editor() -> LeditsEditor:
    return LeditsEditor(
        LeditsOptions(checkpoint=str(AVATARS / "editor"), steps=4, mask="intersection", device="cpu", batch_size=3)
    )


def requests(images: list[str]) -> list[EditRequest]:
    combinations = [(), *[(Concept(word),) for word in WORDS], (Concept(WORDS[0]), Concept(WORDS[1], "remove"))]
    return [EditRequest(image, concepts) for concepts in combinations for image in images]


def store_in(folder: Path) -> tuple[Store, list[EditRequest]]:
    store, pictures = Store(folder), {}
    for file in sorted((AVATARS / "images").glob("*.png"))[:2]:
        with Image.open(file) as picture:
            pictures[file.name] = picture.convert("RGB")
    return store, requests(sorted(store.put_images(pictures).values()))


def share(folder: Path, part: int, of: int) -> dict[str, str]:
    """Make every `of`-th batch in a store of this process's own: edit -> its file."""
    store, wanted = store_in(folder)
    ensure_edits(store, editor(), [r for batch in editor().batches(wanted)[part::of] for r in batch])
    found = store.stored_edits(wanted, editor().fingerprint)
    return {repr(request): file for request, file in found.items()}


@pytest.mark.slow
@pytest.mark.long
def test_one_run_a_stopped_one_and_two_processes_make_the_same_files(tmp_path: Path) -> None:
    store, wanted = store_in(tmp_path / "once")
    assert ensure_edits(store, editor(), wanted).made == len(wanted)
    # Files are named by their content.
    once = {repr(request): file for request, file in store.stored_edits(wanted, editor().fingerprint).items()}
    assert len(set(once.values())) == len(wanted)

    class Stopping:
        """Ends, as a killed run does, while it makes its third batch."""

        fingerprint = editor().fingerprint

        def edit(self, images, asked):
            for i, batch in enumerate(editor().edit(images, asked)):
                if i == 2:
                    raise KeyboardInterrupt
                yield batch

    stopped, wanted = store_in(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        ensure_edits(stopped, Stopping(), wanted)
    counts = ensure_edits(stopped, editor(), wanted[::-1])  # asked for in another order, too
    assert counts.made > 0 and counts.reused > 0
    again = {repr(request): file for request, file in stopped.stored_edits(wanted, editor().fingerprint).items()}
    assert again == once

    code = "import json, sys; from pathlib import Path; from tests.editing.test_same_bits import share; "
    code += "print(json.dumps(share(Path(sys.argv[1]), 0, 2)))"
    command = [sys.executable, "-c", code, str(tmp_path / "theirs")]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=AVATARS.parent.parent).stdout
    theirs, ours = json.loads(output.splitlines()[-1]), share(tmp_path / "ours", 1, 2)
    assert theirs and ours and not theirs.keys() & ours.keys()
    assert theirs | ours == once
