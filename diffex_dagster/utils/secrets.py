"""Secrets that the process knows, and how they are kept out of whatever is shown or stored."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_SHORTEST = 6  # letters: what is shorter stands in ordinary text too
_remembered: set[str] = set()


def remember(secret: str) -> None:
    """Note a secret that does not come from an environment variable whose name says so."""
    _remembered.add(secret.strip())


def redact(text: str) -> str:
    """A text without the secrets that the process knows: those noted, and the environment's keys and passwords."""
    known = _remembered | {value.strip() for name, value in os.environ.items() if _NAMES.search(name)}
    for secret in sorted((each for each in known if len(each) >= _SHORTEST), key=len, reverse=True):
        for form in {secret, quote(secret, safe="")}:
            text = text.replace(form, "[secret]")
    return text
