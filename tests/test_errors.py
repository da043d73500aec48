"""Messages of other people's code: what our sentences quote of them, and what becomes a sentence at all."""

from __future__ import annotations

import struct

import pytest

from diffex_dagster.errors import (
    ClassifierError,
    DiffExError,
    at_the_boundary,
    first_line,
    in_words,
    of_a_disk,
    telling,
)

TORCHSCRIPT = """The following operation failed in the TorchScript interpreter.
Traceback of TorchScript (most recent call last):
  File "net.py", line 7, in forward
    return x.to(self.mean.device) - self.mean
           ~~~~~~~~~~~~~~~~~~~~~~ <--- HERE
RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!
"""
CSV = """CSV Error on Line: 1
Original Line: path,label
Invalid unicode (byte sequence mismatch) detected. This file is not utf-8 encoded.

Possible Solution: Set the correct encoding, if available, to read this CSV File
"""


def test_the_cause_is_quoted_where_it_stands_below_a_heading() -> None:
    assert telling(TORCHSCRIPT).startswith("The following operation failed in the TorchScript interpreter. ")
    assert "cuda:0 and cpu!" in telling(TORCHSCRIPT)
    assert "Invalid unicode" in telling(CSV)
    assert telling("one line") == "one line" == telling("\n  one   line \n")
    assert telling("Error loading:\n\tmissing key 'fc.weight'") == "Error loading: missing key 'fc.weight'"
    assert telling("") == ""
    assert len(telling("x" * 5000)) <= 240 and len(telling("a\n" + "RuntimeError: " + "y" * 5000)) <= 240


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("size"), "KeyError: 'size'"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (struct.error("'L' format requires 0 <= number"), "error: 'L' format requires 0 <= number"),
        (AssertionError(), "AssertionError"),
        (RuntimeError("no GPU"), "no GPU"),
        (FileNotFoundError(2, "No such file or directory", "weights.bin"), "No such file or directory: weights.bin"),
        (OSError(30, "Read-only file system"), "Read-only file system"),
        (UnicodeEncodeError("ascii", "▲", 0, 1, "ordinal not in range(128)"), None),
    ],
)
def test_an_exception_in_its_own_words(error: BaseException, words: str | None) -> None:
    assert in_words(error) == (words or f"UnicodeEncodeError: {error}")
    assert first_line(AssertionError()) == "AssertionError"


@pytest.mark.parametrize(
    "error",
    [struct.error("s"), KeyError("k"), ZeroDivisionError("z"), RuntimeError("r"), OSError(28, "No space left"),
     AttributeError("a"), RecursionError("deep"), StopIteration(), UnicodeDecodeError("utf-8", b"x", 0, 1, "u")],
)  # fmt: skip
def test_any_exception_at_a_boundary_becomes_one_sentence_of_the_boundarys_kind(error: Exception) -> None:
    with (
        pytest.raises(ClassifierError) as raised,
        at_the_boundary("v1: the model cannot be loaded", "export it again", ClassifierError),
    ):
        raise error
    assert str(raised.value) == f"v1: the model cannot be loaded ({in_words(error)}); export it again"
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [DiffExError("a sentence already"), KeyboardInterrupt(), MemoryError(), SystemExit(3)]
)
def test_sentences_interrupts_and_want_of_memory_pass_a_boundary(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, at_the_boundary("x", "y"):
        raise error
    assert raised.value is error


def test_a_full_or_read_only_disk_is_a_sentence_and_no_other_error_is() -> None:
    full = of_a_disk(OSError(28, "No space left on device", "r/x.png"))
    assert str(full).startswith("a file cannot be written (No space left on device: r/x.png); make room, and run again")
    assert "Read-only file system" in str(of_a_disk(OSError(30, "Read-only file system", "r")))
    assert "Permission denied" in str(of_a_disk(PermissionError(13, "Permission denied", "r")))
    assert of_a_disk(FileNotFoundError(2, "No such file", "x")) is None and of_a_disk(OSError("odd")) is None


def test_a_boundary_knows_further_remedies_by_the_kind_of_exception() -> None:
    with (
        pytest.raises(DiffExError, match=r"^x \(Read-only file system\); name another folder$"),
        at_the_boundary("x", "y", foreseen={OSError: "name another folder"}),
    ):
        raise OSError(30, "Read-only file system")
