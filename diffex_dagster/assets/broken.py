"""Asset: a study that cannot be built, in the place of all its stages."""

from __future__ import annotations

import re
from pathlib import Path

import dagster as dg

from diffex_dagster.assets import kept
from diffex_dagster.errors import DiffExError
from diffex_dagster.utils.secrets import redact, without_secrets


def broken_study(file: Path, error: Exception) -> dg.Definitions:
    """`<folder>/study_is_broken`: its description says what is wrong in which file; materializing it tries again.

    Args:
        file: the study file.
        error: why it cannot be built.
    """
    said = _sentence(file, error)
    folder = re.sub(r"\W", "_", file.parent.name, flags=re.ASCII)

    @dg.asset(
        key=[folder, "study_is_broken"],
        group_name=f"{folder}_broken",
        kinds={"yaml"},
        tags={"diffex/broken": ""},
        description=f"This study cannot be loaded. {said}",  # plain: the lineage shows it as it stands
        metadata={"file": dg.MetadataValue.path(str(file))},
    )
    def study_is_broken() -> None:
        from diffex_dagster.assets.build import build_study
        from diffex_dagster.study import load_study

        try:
            build_study(load_study(file))
        except Exception as now:
            raise kept.failed(_sentence(file, now)) from without_secrets(now)
        raise kept.failed(
            f"{file}: the file alone is right now; reload the code location to see its stages. It said before: {said}"
        )

    return dg.Definitions(assets=[study_is_broken])


def _sentence(file: Path, error: Exception) -> str:
    """What is wrong, with the file named."""
    text = str(error) if isinstance(error, DiffExError) else f"{type(error).__name__}: {error}"
    return redact(text if str(file) in text else f"{file}: {text}")
