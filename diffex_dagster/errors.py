"""The errors a user can do something about, and how those of others are quoted in them."""

from __future__ import annotations


class DiffExError(Exception):
    """Something the user can put right. The message is one sentence that names what is wrong, where, and the remedy."""


class StudyError(DiffExError):
    """A study file, or a file it names, is wrong."""


class CorpusError(DiffExError):
    """A corpus (a VLM's answer, a person's edits, a hand-written tree) is wrong."""


class EditorError(DiffExError):
    """The diffusion editor cannot be loaded or cannot make the edit that was asked for."""


class ClassifierError(DiffExError):
    """The classifier cannot be loaded, lacks the class that was asked for, or returns something unexpected."""


class StoreError(DiffExError):
    """The results database cannot be opened or written."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something, or its kind where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
