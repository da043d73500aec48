"""Secrets that the process knows, and how they are kept out of whatever is shown, logged or stored.

Messages are cleaned where a `DiffExError` is made, logs by `logger`, what leaves the program as an exception by
`none_raised`, and a model's answer before anything reads it.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|_PASS|_PAT|_AUTH)S?$", re.IGNORECASE)
_QUERY = re.compile(r"key|token|secret|pass|sig|auth|code|credential", re.IGNORECASE)
_SHORTEST = 6  # letters: what is shorter stands in ordinary text too
_TOKEN = 16  # letters: a user without a password that is shorter is a name
_PUT = "[secret]"
_remembered: set[str] = set()


def remember(secret: str) -> None:
    """Note a secret that does not come from an environment variable whose name says so."""
    _remembered.add(secret.strip())


def remember_address(url: str) -> None:
    """Note the password of an address, and what its query gives as key, token or signature."""
    for secret in _of_address(url):
        remember(secret)


def has_password(url: str) -> bool:
    """Whether an address holds a password, before its host or in its query."""
    try:
        parts = urlsplit(url)
        return bool(parts.password) or any(name == "password" and value for name, value in parse_qsl(parts.query))
    except ValueError:
        return False


def redact(text: str) -> str:
    """A text without the secrets that the process knows: those noted, and the environment's keys and passwords."""
    forms = {form for each in _known() if len(each) >= _SHORTEST for form in _forms(each)}
    if not forms:
        return text
    # One pass, the longest first: what stands for a secret is left alone, whatever is a secret.
    longest = sorted(forms, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, (_PUT, *longest))), _PUT, text)


def redacted(value: Any) -> Any:
    """The same of a text, and of all texts in lists, tuples and mappings."""
    if isinstance(value, str):
        return redact(value)
    if type(value) in (list, tuple):
        return type(value)(redacted(each) for each in value)
    if type(value) is dict:
        return {redacted(key): redacted(each) for key, each in value.items()}
    return value


def _known() -> set[str]:
    found = set(_remembered)
    for name, value in os.environ.items():
        if _names_a_secret(name) and not _is_path(value.strip()):
            found.add(value.strip())
        found.update(_of_address(value))
    return found


@lru_cache(maxsize=1024)  # asked for every variable of the environment, for every text
def _names_a_secret(variable: str) -> bool:
    return _NAMES.search(variable) is not None


def _is_path(value: str) -> bool:
    return value.startswith(("/", "~", "./")) and Path(value).expanduser().exists()


_DSN = re.compile(r"\bpassword\s*=\s*('[^']+'|\S+)", re.IGNORECASE)


@lru_cache(maxsize=1024)
def _of_address(url: str) -> tuple[str, ...]:
    """Secrets of an address, as they are and as a header carries them; and of `host=db password=...`."""
    if "://" not in url:
        found = _DSN.findall(url) if "=" in url else []
        return tuple(each.strip("'") for each in found if len(each) >= _SHORTEST)
    try:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        return ()
    of_query = [value for name, value in parse_qsl(parts.query) if _QUERY.search(name)]
    secret = password or (user if len(user) >= _TOKEN else "")  # a token may stand alone
    header = base64.b64encode(f"{user}:{password}".encode()).decode() if secret else ""
    return tuple(each for each in (secret, header, *of_query) if len(each) >= _SHORTEST)


def _forms(secret: str) -> set[str]:
    """A secret as it is, in an address, in JSON, and in base64."""
    return {
        secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1],
        base64.b64encode(secret.encode()).decode(),
    }  # fmt: skip


# Logs ----------------------------------------------------------------------------------------------------------------


def logger(name: str) -> logging.Logger:
    """The logger of that name, no record of which holds a secret."""
    found = logging.getLogger(name)
    if _clean not in found.filters:
        found.addFilter(_clean)
    return found


def _clean(record: logging.LogRecord) -> bool:
    record.msg, record.args = redact(record.getMessage()), None
    if record.exc_info:
        record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
    return True


# Exceptions ----------------------------------------------------------------------------------------------------------


@contextmanager
def none_raised() -> Iterator[None]:
    """Around a whole piece of work: what it raises, with its causes, holds no secret that the process knows.

    A traceback that is printed, or kept by Dagster, shows the text of every exception in the chain.
    """
    plain: BaseException | None = None
    try:
        yield
    except Exception as error:
        plain = without_secrets(error)
        if plain is error:
            raise
    if plain is not None:
        before = None if plain.__suppress_context__ else plain.__context__
        raise plain from plain.__cause__ or before  # without `from`, the one with secrets would be its context


def without_secrets(error: BaseException) -> BaseException:
    """An exception whose text, notes and causes are cleaned; another one of its name where its text is fixed."""
    below = {id(error)}
    plain = _plain(error)
    parent, each = plain, error
    while (following := each.__cause__ or (None if each.__suppress_context__ else each.__context__)) is not None:
        if id(following) in below:
            break
        below.add(id(following))
        clean = _plain(following)
        if each.__cause__ is not None:
            parent.__cause__ = clean
        else:
            parent.__context__ = clean
        parent, each = clean, following
    return plain


def _plain(error: BaseException) -> BaseException:
    notes = getattr(error, "__notes__", None)
    if notes:
        error.__notes__ = redacted(list(notes))
    if not _tells(error):
        return error
    error.args = redacted(error.args)
    if not _tells(error):
        return error
    stand_in = _another(error)
    stand_in.__cause__, stand_in.__context__ = error.__cause__, error.__context__
    stand_in.__suppress_context__ = error.__suppress_context__
    return stand_in.with_traceback(error.__traceback__)


def _another(error: BaseException) -> BaseException:
    if isinstance(error, OSError) and error.errno is not None:  # of its own kind, by its number
        files = (redacted(error.filename), None, redacted(error.filename2)) if error.filename is not None else ()
        return OSError(error.errno, redacted(error.strerror), *files)
    made: BaseException = type(type(error).__name__, (Exception,), {})(redact(str(error)))
    return made


def _tells(error: BaseException) -> bool:
    said = (str(error), repr(error))
    return any(redact(each) != each for each in said)
