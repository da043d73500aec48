"""Discovery and confirmation images: search on the one, report on the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def split(image_keys: Sequence[str], confirmation_share: float, seed: int) -> tuple[list[str], list[str]]:
    """Split images into discovery and confirmation, each image on its own.

    Choosing the top features and estimating their effects on the same images biases the estimates upwards (the
    winner's curse); confirmation images have had no part in the choice.

    An image goes where the hash of its key and the seed says, whatever the other images are. An image added to the
    study therefore moves none of the others, and none that the search has seen turns into confirmation. The price is
    that the share is met on average only. There is one exception: when the hashes leave one part empty, the image
    nearest to it is moved there, so that two images or more always give two parts.

    Args:
        image_keys: content keys of the images, without repetition.
        confirmation_share: in [0, 1]; 0 turns the split off (all images are discovery).
        seed: another seed is another split.

    Returns:
        (discovery, confirmation), both in the order of `image_keys`.

    Raises:
        ValueError: the share is outside [0, 1], or a key occurs twice.
    """
    if not 0.0 <= confirmation_share <= 1.0:
        raise ValueError(f"confirmation_share is {confirmation_share}; it must lie between 0 and 1.")
    if len(set(image_keys)) != len(image_keys):
        raise ValueError("an image key occurs twice: the same picture would be in both parts.")
    places = {image: _place(image, seed) for image in image_keys}
    confirmation = {image for image, place in places.items() if place < confirmation_share}
    if 0.0 < confirmation_share < 1.0 and len(image_keys) > 1:
        if not confirmation:
            confirmation = {min(places, key=lambda image: places[image])}
        elif len(confirmation) == len(image_keys):
            confirmation.remove(max(places, key=lambda image: places[image]))
    return (
        [image for image in image_keys if image not in confirmation],
        [image for image in image_keys if image in confirmation],
    )


def _place(image: str, seed: int) -> float:
    """A number in [0, 1) that depends on the key and the seed alone."""
    digest = hashlib.sha256(f"{seed}:{image}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
