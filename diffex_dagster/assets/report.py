"""Assets: the ranked report of one classifier version, and the comparison of all of them."""

import dagster as dg

from diffex_dagster.assets.common import Names, clear_errors, sheet
from diffex_dagster.report.files import write_comparison
from diffex_dagster.report.tables import comparison_markdown_table, comparison_rows, markdown_table, markdown_text, rows
from diffex_dagster.report.verdict import comparison_verdict, verdict
from diffex_dagster.stages.comparing import compare_classifiers
from diffex_dagster.stages.reporting import ranked_report
from diffex_dagster.stages.setup import reports_folder
from diffex_dagster.store.keys import digest
from diffex_dagster.study import Study


def build_report(study: Study, name: str) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """`<study>/<classifier>/ranked_report` and the check that something rises above the noise."""
    names = Names(study.for_classifier(name))

    @dg.asset(
        key=names.key(name, "ranked_report"),
        deps=[names.key(name, "level2_scores")],
        kinds={"html", "duckdb"},
        **names.options("title", "effects", "probe", "target", "search", group=name),
    )
    def ranked_report_asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """The features by the size of their effect, each with its interval, decision and pictures.

        One row of `rankings` is one line of the list; one row of `effects` is one feature on one image.
        """
        resource = getattr(context.resources, names.resource)
        with clear_errors():
            current = resource.study().for_classifier(name)
            folder = reports_folder(current, name)
            explanation, files = ranked_report(
                current,
                resource.store(),
                resource.editor(),
                resource.classifier(name),
                name,
                run=context.run.run_id,
                folder=folder,
                command=command(current, name),
            )
        top = explanation.features[:6]
        pictures = [(row.name, [e.edit for e in explanation.examples[row.feature]]) for row in top]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest(rows(explanation.features), explanation.corpus_version)),
            metadata={
                "dagster/row_count": len(explanation.features),
                "verdict": dg.MetadataValue.md("\n\n".join(map(markdown_text, verdict(explanation)))),
                "ranking": dg.MetadataValue.md(markdown_table(explanation.features, limit=20)),
                "strongest": sheet(pictures),
                "top_effect": abs(top[0].effect) if top else 0.0,
                "top_flip_rate": top[0].flip_rate if top else 0.0,
                "noise_floor": explanation.noise_floor,
                "report": dg.MetadataValue.path(str(folder / "index.html")),
                "files": len(files),
            },
        )

    return [ranked_report_asset]


def build_comparison(study: Study) -> dg.AssetsDefinition:
    """`<study>/classifier_comparison`, where the study has more than one classifier with its target."""
    names = Names(study)

    @dg.asset(
        key=names.key("classifier_comparison"),
        deps=[names.key(name, "ranked_report") for name in study.comparable],
        kinds={"html"},
        **names.options("title", "effects", "target"),
    )
    def classifier_comparison(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """How the classifier versions differ: the effect of every feature in each, on the same images and edits."""
        resource = getattr(context.resources, names.resource)
        with clear_errors():
            current = resource.study()
            classifiers = {name: resource.classifier(name) for name in current.comparable}
            comparison = compare_classifiers(
                current, resource.store(), resource.editor(), classifiers, command(current, None)
            )
            folder = reports_folder(current, "comparison")
            write_comparison(comparison, folder)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest(comparison_rows(comparison))),
            metadata={
                "dagster/row_count": len(comparison.features),
                "verdict": dg.MetadataValue.md("\n\n".join(map(markdown_text, comparison_verdict(comparison)))),
                "comparison": dg.MetadataValue.md(comparison_markdown_table(comparison, limit=20)),
                "report": dg.MetadataValue.path(str(folder / "index.html")),
            },
        )

    return classifier_comparison


def command(study: Study, classifier: str | None) -> str:
    """The command that makes a report again."""
    parts = ["diffex run", study.name]
    if study.editor_name != next(iter(study.editors)):
        parts.append(f"--editor {study.editor_name}")
    if classifier:
        parts.append(f"--classifier {classifier}")
    return " ".join(parts)
