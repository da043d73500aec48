"""Asset: the edits of level 1, shared by every classifier."""

import dagster as dg

from diffex_dagster.assets import kept
from diffex_dagster.assets.common import Names, announce, clear_errors, edit_metadata, sheet, table_metadata
from diffex_dagster.assets.lineage import Reading, upstream
from diffex_dagster.editing.protocol import Concept
from diffex_dagster.resources import ClassifierResource, EditorResource, Resources, ResultsResource
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edit_metrics import edit_strength
from diffex_dagster.stages.edits import Concepts, level1_edits, level1_plan
from diffex_dagster.stages.pictures import Pictures
from diffex_dagster.stages.plan import plan_of
from diffex_dagster.stages.versions import overrides_version
from diffex_dagster.study import Study


def build(study: Study) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """`<study>/level1_edits` and the check that its edits happened."""
    names = Names(study)

    @dg.asset(
        key=names.key("level1_edits"),
        deps=upstream(study, "level1_edits"),
        kinds={"diffusers", "pytorch", "duckdb"},
        pool="gpu",
        **names.options("level1_edits"),
    )
    def level1_edits_asset(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """Every sample image edited towards every level-1 group, with the null edits they are compared with.

        One row of `edits` is one edited picture, keyed by image, prompts, editor and seed. Edits belong to no
        classifier: a second version makes none of them again.
        """
        with (
            clear_errors(),
            Resources(diffex_results, diffex_editor, diffex_classifiers).working(study, log=context.log.info) as work,
        ):
            reading, store = Reading(context, work, "level1_edits"), work.store
            announce(context, plan_of(work, "level1_edits"))
            counts, keys = level1_edits(work)
            pictures, plan = _level1_pictures(work)
            rows = [(_label(concepts), pictures.edits(concepts, images)) for concepts, images in plan.items()]
            return reading.result(
                overrides_version(keys),
                metadata={
                    **table_metadata(store, "edits", len(keys)),
                    **edit_metadata(counts),
                    "edits": sheet(rows),
                },
            )

    @dg.asset_check(
        asset=level1_edits_asset,
        description="Edits change their pictures by more than the study's min_edit_strength.",
    )
    def edits_changed_the_pictures(
        diffex_results: ResultsResource, diffex_editor: EditorResource, diffex_classifiers: ClassifierResource
    ) -> dg.AssetCheckResult:
        with clear_errors(), Resources(diffex_results, diffex_editor, diffex_classifiers).working(study) as work:
            effects, (pictures, plan) = work.with_control_words().study.effects, _level1_pictures(work)
            made = {
                _label(concepts): (pictures.edits(concepts, images), pictures.edits((), images))
                for concepts, images in plan.items()
                if concepts and concepts[0].prompt not in effects.control_prompts
            }
            least = effects.min_edit_strength
            strengths = {label: float(edit_strength(edits, nulls).mean()) for label, (edits, nulls) in made.items()}
        idle = [label for label, strength in strengths.items() if strength < least]
        return kept.checked(
            not idle,
            f"the editor did not change anything for: {', '.join(idle)}" if idle else "all of them did",
            {
                "edits_judged": len(strengths),
                "edits_without_change": len(idle),
                "weakest": min(strengths.values(), default=0.0),
                "limit": least,
            },
            blocks=False,
        )

    return [level1_edits_asset, edits_changed_the_pictures]


def _level1_pictures(work: StudyContext) -> tuple[Pictures, dict[Concepts, list[str]]]:
    """The pictures of level 1, all looked up, and which images each combination is edited on."""
    pictures, plan = Pictures(work, work.store.images(list(work.samples))), level1_plan(work)
    pictures.find(plan)
    return pictures, plan


def _label(concepts: tuple[Concept, ...]) -> str:
    return ", ".join(("" if c.direction == "add" else "without ") + c.prompt for c in concepts) or "null edit"
