"""Asset: what of a study's reports holds under both of its editors."""

import dagster as dg

from diffex_dagster import __version__
from diffex_dagster.assets import kept
from diffex_dagster.assets.common import Names, clear_errors, feature_table, page_metadata
from diffex_dagster.report.markdown_tables import markdown_text
from diffex_dagster.report.rows import editor_rows, finite
from diffex_dagster.report.verdict import agreement_sentences
from diffex_dagster.resources import ClassifierResource, EditorResource, ResultsResource, deployed
from diffex_dagster.stages.agreement import agreement_version, editors_page
from diffex_dagster.study import Study
from diffex_dagster.utils.hashing import digest

_COLUMNS = {"classifier": "string", "name": "string", "group": "string", "verdict": "string"}


def build_editors(study: Study) -> dg.AssetsDefinition:
    """`<study>/editor_comparison`, downstream of every classifier's reports under both editors."""
    names, editors = Names(study), (study.editor_name, study.second_editor)
    arms = [Names(study.with_editor(editor)) for editor in editors]

    @dg.asset(
        key=names.key("editor_comparison"),
        deps=[arm.key(classifier, "ranked_report") for arm in arms for classifier in study.classifiers],
        kinds={"html"},
        group_name=f"{study.prefix}_shared",
        owners=list(study.owners) or None,
        code_version=__version__,
        automation_condition=dg.AutomationCondition.eager(),
    )
    def editor_comparison(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """What of every classifier's explanation does not depend on who made the edits.

        One row of the table is one feature of one classifier: what the reports under both editors say of it. Nothing is
        edited or scored.
        """
        with clear_errors():
            work = deployed(study, diffex_results, diffex_editor, diffex_classifiers)
            found = {}
            for name in study.classifiers:
                command = f"diffex compare {study.folder.name} {name} --editors {','.join(editors)}"
                found[name] = editors_page(work, name, editors, command)
        rows = [{"classifier": name} | finite(row) for name, (each, _) in found.items() for row in editor_rows(each)]
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
