"""Objects that a study names as `module:attribute`."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import Any

from diffex_dagster.errors import StudyError


def load_object(reference: str, folder: Path, field: str) -> Any:
    """Import `module:attribute`; a module beside the study file or in the working directory is found too.

    Raises:
        StudyError: the module or the attribute does not exist.
    """
    module_name, _, attribute = reference.partition(":")
    for place in (str(folder), str(Path.cwd())):
        if place not in sys.path:
            sys.path.append(place)
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module_name))
    except (ImportError, AttributeError) as error:
        raise StudyError(
            f"{folder}: {field}: {reference!r} cannot be imported ({error}); write module:attribute, with the module "
            "installed or beside the study file"
        ) from error
