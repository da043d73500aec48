"""Asset: what of a study's reports holds under both of its editors."""

from collections.abc import Mapping, Sequence

import dagster as dg

from diffex_dagster.assets import kept
from diffex_dagster.assets.automation import automation_sensor, when_unsynced
from diffex_dagster.assets.build import build_study
from diffex_dagster.assets.common import Names, clear_errors, feature_table, page_metadata, quiet, with_code
from diffex_dagster.report.markdown_tables import markdown_text
from diffex_dagster.report.rows import editor_rows
from diffex_dagster.report.verdict import agreement_sentences
from diffex_dagster.resources import ClassifierResource, EditorResource, Place, Resources, ResultsResource, resources_of
from diffex_dagster.resources.queue import run_tags
from diffex_dagster.results import AgreedFeature
from diffex_dagster.stages.agreement import agreement_version, editors_page
from diffex_dagster.stages.settings import stage_version
from diffex_dagster.study import Study
from diffex_dagster.utils.columns import columns
from diffex_dagster.utils.hashing import digest

_COLUMNS = {"classifier": "string", **columns(AgreedFeature, listed=True)}


@quiet()
def build_under_editors(
    study: Study, classifiers: Sequence[str] | None = None, resources: Mapping[str, Place] | None = None
) -> dg.Definitions:
    """All of a study: its graph, and where it names a second editor, the graph of that one and what holds under both.

    Args:
        classifiers, resources: as of `build_study`.
    """
    resources = resources_of() if resources is None else resources
    definitions = build_study(study, classifiers, resources=resources)
    if not study.second_editor:
        return definitions
    second = build_study(study.with_editor(study.second_editor), classifiers, resources=resources)
    tags = run_tags(study, getattr(resources.get("diffex_results"), "space", None))
    (both,) = with_code(study, [build_editors(study, classifiers)], tags)
    sensor = automation_sensor(study, [both], tags, "_editors")
    return dg.Definitions.merge(definitions, second, dg.Definitions([both], sensors=[sensor]))


def build_editors(study: Study, classifiers: Sequence[str] | None = None) -> dg.AssetsDefinition:
    """`<study>/editor_comparison`, downstream of every classifier's reports under both editors."""
    of = tuple(study.classifiers if classifiers is None else classifiers)
    names, editors = Names(study), (study.editor_name, study.second_editor)
    arms = [Names(study.with_editor(editor)) for editor in editors]

    @dg.asset(
        key=names.key("editor_comparison"),
        deps=[arm.key(classifier, "ranked_report") for arm in arms for classifier in of],
        kinds={"html"},
        group_name=f"{study.prefix}_shared",
        owners=list(study.owners) or None,
        code_version=stage_version(study, "editor_comparison"),
        automation_condition=when_unsynced(dg.AssetSelection.assets(*(arm.key("corpus") for arm in arms))),
    )
    def editor_comparison(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """What of every classifier's explanation does not depend on the editor.

        One row of the table is one feature of one classifier: what the reports under both editors say of it. Nothing is
        edited or scored.
        """
        with clear_errors():
            work = Resources(diffex_results, diffex_editor, diffex_classifiers).deployed(study)
            found = {}
            for name in of:
                command = f"diffex compare {study.folder.name} {name} --editors {','.join(editors)}"
                found[name] = editors_page(work, name, editors, command)
        rows = [{"classifier": name} | row for name, (each, _) in found.items() for row in editor_rows(each)]
        said = {name: "\n\n".join(map(markdown_text, agreement_sentences(each))) for name, (each, _) in found.items()}
        return kept.materialized(
            digest([agreement_version(each) for each, _ in found.values()])[:16],
            metadata={
                **{f"verdict {name}": dg.MetadataValue.md(text) for name, text in said.items()},
                **{
                    f"page {name}": page_metadata(work.study, folder / "index.html")
                    for name, (_, folder) in found.items()
                },
                "features": feature_table(rows, _COLUMNS),
                "holding": sum(row["verdict"] == "holds under both" for row in rows),
                "contradicted": sum(row["verdict"] == "contradicted" for row in rows),
            },
            tags={},
        )

    return editor_comparison
