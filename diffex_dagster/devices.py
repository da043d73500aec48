"""Which device to compute on."""

from __future__ import annotations


def pick_device(wanted: str = "auto") -> str:
    """ "auto" becomes "cuda", "mps" or "cpu", whichever there is; anything else comes back as it is."""
    if wanted != "auto":
        return wanted
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
