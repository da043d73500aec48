"""Which device to compute on, and loading models without noise."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import TypeVar

from diffex_dagster.errors import DiffExError, EditorError
from diffex_dagster.utils.secrets import logger

Made = TypeVar("Made")
Item = TypeVar("Item")
_NO_MEMORY = ("out of memory", "can't allocate memory", "failed to allocate memory")
log = logger(__name__)


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


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device had no memory left: torch.OutOfMemoryError, or the plain errors of mps, cpu and onnxruntime."""
    if isinstance(error, DiffExError):  # what it says is for a person, of whatever cause
        return False
    import torch

    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(words in str(error).lower() for words in _NO_MEMORY)


def made_if_it_fits(
    make: Callable[[], Made], device: str, too_large: str, error: type[DiffExError] = EditorError
) -> Made | None:
    """What is made, or None if it did not fit into a device's memory; that is freed then, and less may be tried.

    Args:
        make: called once.
        device: where, as a study writes it ("auto", "cuda:1").
        too_large: the error's sentence where nothing less can be tried; empty where it can.
        error: raised with it.

    Raises:
        DiffExError: an `error`: it did not fit, and nothing less can be tried.
    """
    try:
        return make()
    except Exception as cause:  # torch.OutOfMemoryError, a plain RuntimeError of mps and cpu, onnxruntime's own kind
        if not is_out_of_memory(cause):
            raise
        if too_large:
            raise error(too_large) from cause
    # Outside the handler: the traceback holds the tensors that have to go.
    free_memory(device)
    return None


def made_in_batches(
    items: Sequence[Item],
    most: int,
    make: Callable[[Sequence[Item]], Made],
    device: str,
    too_large: str,
    error: type[DiffExError],
) -> Iterator[tuple[Sequence[Item], Made, int]]:
    """A model's answers a batch at a time; where one does not fit into memory the batches go on half as large.

    Args:
        items: in order.
        most: items at a time.
        make: asks the model about a batch; called again with fewer items where memory did not suffice.
        device: see `made_if_it_fits`.
        too_large: the error's sentence where one item alone does not fit.
        error: raised with it.

    Yields:
        A batch, what was made of it, and how many items are asked about at a time now.

    Raises:
        DiffExError: an `error`: one item alone does not fit.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + most]
        made = made_if_it_fits(functools.partial(make, batch), device, too_large * (len(batch) == 1), error)
        if made is None:
            most = len(batch) // 2
            log.warning(
                "out of memory: going on with %d at a time; answers differ by rounding from those of a run "
                "that has memory for more",
                most,
            )
            continue
        start += len(batch)
        yield batch, made, most


def free_memory(device: str) -> None:
    """Give memory that no tensor holds any more back to the device ("auto", "cuda:1")."""
    import gc

    import torch

    gc.collect()
    kind = pick_device(device).partition(":")[0]
    if kind == "cuda":
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()
