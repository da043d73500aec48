"""Which device to compute on, and loading models without noise."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

from diffex_dagster.errors import EditorError

Made = TypeVar("Made")


def pick_device(wanted: str = "auto") -> str:
    """ "auto" becomes "cuda", "mps" or "cpu", whichever there is; anything else comes back as it is."""
    if wanted != "auto":
        return wanted
    if version("torch").endswith("+cpu"):
        return "cpu"  # a build that knows no other device: not worth the seconds that torch takes to import
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_problem(wanted: str) -> str:
    """Why nothing can be computed on a device, as the end of a sentence; empty where it can."""
    kind, _, number = wanted.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not number.isdigit()):
        return "is no device"
    if kind in ("auto", "cpu"):
        return ""
    import torch

    if kind == "mps":
        return "" if torch.backends.mps.is_available() else "is not on this machine"
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None or torch.version.hip is not None
        return "is not on this machine" if built else f"needs another build of torch than {torch.__version__}"
    count = torch.cuda.device_count()
    return f"is not on this machine, which has {count} of them" if int(number or 0) >= count else ""


def measure_gpu_memory() -> Callable[[], float | None]:
    """Start measuring; the answer, called later, is the most GPU memory held since, in GB of 10⁹ bytes.

    None where this process uses no CUDA device: a stage whose model runs elsewhere holds none of it.
    """
    import sys

    torch = sys.modules.get("torch")  # a process that has not imported torch holds no memory of it
    if torch is None or not torch.cuda.is_available():
        return lambda: None
    torch.cuda.reset_peak_memory_stats()
    return lambda: float(torch.cuda.max_memory_allocated() / 1e9)


def load_quietly() -> None:
    """No bar for every checkpoint that is read: the stages report their own progress."""
    import diffusers.utils.logging
    import transformers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def keep_freed_memory() -> bool:
    """Let glibc keep large freed blocks instead of handing them back to the kernel after every operation.

    Every layer allocates and frees its activations; fetching the same pages again each time can cost as much as
    the arithmetic. Does nothing where there is no glibc.

    Returns:
        Whether the allocator took the settings.
    """
    import ctypes
    import sys

    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    trim_threshold, mmap_threshold = -1, -3  # names in malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    return bool(mallopt(mmap_threshold, 32 * 2**20)) and bool(mallopt(trim_threshold, 2**31 - 1))


def torchvision_problem() -> str:
    """What is wrong with the installed torchvision, with the remedy; empty where it is fine or not installed.

    transformers and timm use it where it is installed, and one that was built for another torch breaks both.
    """
    import importlib.util

    try:
        if importlib.util.find_spec("torchvision") is None:
            return ""
        import torchvision  # noqa: F401
    except Exception as error:  # RuntimeError: operator torchvision::nms does not exist; OSError; ImportError
        cause = " ".join(str(error).split())[:120]
        return (
            f"the installed torchvision does not fit torch {version('torch')} ({cause}): install the one that belongs "
            "to it from the same index as torch, or `pip uninstall torchvision`"
        )
    return ""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device had no memory left: torch.OutOfMemoryError, or the plain errors of mps and cpu."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error).lower() for words in ("out of memory", "can't allocate memory")
    )


def made_if_it_fits(make: Callable[[], Made], device: str, too_large: str | None) -> Made | None:
    """What is made, or None if it did not fit into a device's memory; that is freed then, and less may be tried.

    Args:
        device: its kind: cuda, mps or cpu.
        too_large: the error's sentence where nothing less can be tried; None where it can.

    Raises:
        EditorError: it did not fit, and nothing less can be tried.
    """
    try:
        return make()
    except RuntimeError as error:  # torch.OutOfMemoryError is one; mps and cpu raise plain ones
        if not is_out_of_memory(error):
            raise
        if too_large:
            raise EditorError(too_large) from error
    # Outside the handler: the traceback holds the tensors that have to go.
    free_memory(device)
    return None


def free_memory(device: str) -> None:
    """Give memory that no tensor holds any more back to the device."""
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
