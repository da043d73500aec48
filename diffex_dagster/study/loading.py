"""From a study file to a study, with errors that name the file, the line and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml.error import MarkedYAMLError

from diffex_dagster.deployment import Deployment
from diffex_dagster.errors import StudyError, in_words
from diffex_dagster.study.study import Study
from diffex_dagster.utils.mistakes import explain_mistakes, place_in
from diffex_dagster.utils.text import UnreasonableYAML, load_yaml, read_text
from diffex_dagster.utils.variables import UnsetVariable, resolve


def load_study(path: Path) -> Study:
    """Read and validate a study file.

    Args:
        path: a study.yaml, or a folder that holds one.

    Raises:
        StudyError: the file is missing, is not YAML, or a field is wrong; the message names file, field and remedy.
    """
    file = path / "study.yaml" if path.is_dir() else path
    try:
        raw = load_yaml(read_text(file))
    except FileNotFoundError as error:
        raise StudyError(f"{file}: there is no such study file; name one, or a folder with a study.yaml") from error
    except OSError as error:
        raise StudyError(f"{file}: it cannot be read ({in_words(error)}); name a study file that can be") from error
    except UnreasonableYAML as error:
        raise StudyError(f"{file}: no study file is like this ({error}); write it shorter") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        reason = " ".join(str(error.problem or error.context).split())
        raise StudyError(f"{file}: this is not valid YAML ({reason}{line}); mend that line") from error
    except Exception as error:  # ruamel's, of any kind: a tag, a date or a number that cannot be
        raise StudyError(f"{file}: this is not valid YAML ({in_words(error)}); mend it") from error
    if not isinstance(raw, dict):
        raise StudyError(
            f"{file}: the file has no fields; write at least name, domain, corpus, editors and classifiers"
        )
    return study_of(raw, file)


def study_of(fields: dict[str, Any], file: Path) -> Study:
    """A study from the fields of its file.

    Args:
        fields: as in the YAML file.
        file: where paths start from, and what messages name; it need not exist.

    Raises:
        StudyError: a field is wrong; the message names file, field and remedy.
    """
    deployment = Deployment.from_environment()
    try:
        resolved, written = resolve(fields)
        study = Study.model_validate(resolved)
    except UnsetVariable as error:
        raise StudyError(f"{file}: {place_in(file, error.place)}{error}") from error
    except ValidationError as error:
        raise StudyError(explain_mistakes(error.errors(), Study, file)) from error
    study._file, study._written, study._deployment = file.resolve(), written, deployment
    study.check_shared()
    return study


def find_study(name: str, root: Path) -> Path:
    """A study by path, or by name under `<root>/studies`.

    Raises:
        StudyError: neither exists; the message lists the studies there are.
    """
    for candidate in (Path(name), root / "studies" / name):
        if candidate.is_file() or (candidate / "study.yaml").is_file():
            return candidate
    known = sorted(file.parent.name for file in root.glob("studies/*/study.yaml"))
    raise StudyError(
        f"{name}: there is no such study; name a study.yaml, or one of {', '.join(known) or 'none'} "
        f"under {root / 'studies'}"
    )
