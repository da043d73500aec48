"""Asset: the editor's options for each prompt, found by trying, where a study calibrates."""

import dagster as dg

from diffex_dagster.assets.common import (
    Names,
    announce,
    clear_errors,
    edit_metadata,
    feature_table,
    page_metadata,
    sheet,
)
from diffex_dagster.assets.common import table_metadata as table
from diffex_dagster.assets.lineage import Reading, upstream
from diffex_dagster.resources import ClassifierResource, EditorResource, Resources, ResultsResource
from diffex_dagster.stages.calibration import calibrate, calibration_rows
from diffex_dagster.stages.calibration_page import chosen_edits, page_of, write_page
from diffex_dagster.stages.plan import plan_of
from diffex_dagster.study import Study

KEPT = "{} prompts keep the options that were chosen before, whatever the study says now; use --again to start over"
_COLUMNS = {
    "prompt": "string", "direction": "string", "options": "string", "success": "float", "tries": "int", "why": "string",
}  # fmt: skip


def build(study: Study) -> list[dg.AssetsDefinition]:
    """`<study>/editor_calibration`."""
    names = Names(study)

    @dg.asset(
        key=names.key("editor_calibration"),
        deps=upstream(study, "editor_calibration"),
        kinds={"diffusers", "pytorch", "duckdb"},
        pool="gpu",
        **names.options("editor_calibration"),
    )
    def editor_calibration(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """The gentlest options with which the editor's edits show each prompt, found on a few images.

        One row of `calibrations` is one prompt, one row of `tries` one edit that the choice rests on. No classifier is
        asked: what is chosen cannot follow a score. A prompt that has been calibrated keeps its options.
        """
        with (
            clear_errors(),
            Resources(diffex_results, diffex_editor, diffex_classifiers).working(study, log=context.log.info) as work,
        ):
            reading = Reading(context, work, "editor_calibration")
            announce(context, plan_of(work, "editor_calibration"))
            found = calibrate(work)
            shown = page_of(work, found)
            page, chosen = write_page(work.study, shown), chosen_edits(shown)
            return reading.result(
                found.version,
                metadata={
                    **table(work.store, "calibrations", len(found.choices)),
                    **edit_metadata(found.edits),
                    "prompts_calibrated": len(found.new),
                    "edits_allowed": found.budget,
                    "options": feature_table(calibration_rows(found), _COLUMNS),
                    "page": page_metadata(work.study, page),
                    **({"null_and_chosen_edits": sheet(chosen)} if chosen else {}),
                    **({"note": found.note} if found.note else {}),
                    **({"kept": KEPT.format(kept)} if (kept := found.kept) else {}),
                },
            )

    return [editor_calibration]
