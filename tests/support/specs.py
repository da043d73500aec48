"""Every asset of the demo study as text that a review can read. `python -m tests.support.specs` writes it anew."""

from __future__ import annotations

import os
from collections.abc import Iterator

from diffex_dagster.assets.build import build_study
from diffex_dagster.stages.settings import STAGES, stage_settings
from diffex_dagster.study import load_study
from tests.support.project import AVATARS, ROOT

FILE = ROOT / "tests" / "dagster" / "specs.txt"


def described() -> str:
    """Sources and stages of the demo study in the order in which they run: what a user sees, and what decides a run.

    No values: a fingerprint, a version of the package or a path would change it though nobody changed an asset.
    """
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    study = load_study(AVATARS)
    definitions = build_study(study)
    graph = definitions.resolve_asset_graph()
    for key in graph.toposorted_asset_keys:
        node, stage = graph.get(key), key.path[-1]
        checks = sorted(check.name for check in graph.asset_check_keys if check.asset_key == key)
        blocking = {check.name for check in graph.asset_check_keys if graph.get(check).blocking}
        condition = node.automation_condition
        yield f"{key.to_user_string()}  ({'stage' if node.is_materializable else 'observed source'})"
        fields = {
            "says": (node.description or "").split("\n")[0],
            "group": node.group_name,
            "kinds": ", ".join(sorted(node.kinds)),
            "owners": ", ".join(node.owners),
            "pool": ", ".join(sorted(node.pools)),
            "requested": condition.get_label() if condition else "",
            "metadata": ", ".join(sorted(node.metadata)),
            "checks": ", ".join(f"{name} (blocking)" if name in blocking else name for name in checks),
            "reads": ", ".join(sorted(parent.to_user_string() for parent in node.parent_keys)),
            "settings": ", ".join(sorted(stage_settings(study, stage))) if stage in STAGES else "",
        }
        yield from (f"  {name}: {value}" for name, value in fields.items() if value)
        yield ""
    yield f"jobs: {', '.join(sorted(job.name for job in definitions.jobs or []))}"
    yield f"sensors: {', '.join(sorted(sensor.name for sensor in definitions.sensors or []))}"


if __name__ == "__main__":
    os.environ.pop("DIFFEX_CODE_URL", None)
    FILE.write_text(described(), "utf-8")
    print(FILE)
