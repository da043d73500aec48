"""Asset: the words that pictures are described in, where the editor takes them from the corpus."""

import dagster as dg

from diffex_dagster.assets.common import Names, announce, clear_errors, edit_metadata, feature_table
from diffex_dagster.assets.common import table_metadata as table
from diffex_dagster.assets.lineage import Reading, upstream
from diffex_dagster.resources import ClassifierResource, EditorResource, Resources, ResultsResource
from diffex_dagster.stages.plan import plan_of
from diffex_dagster.stages.source_prompts import AGAIN, find_source_prompts, word_rows
from diffex_dagster.study import Study


def build(study: Study) -> list[dg.AssetsDefinition]:
    """`<study>/source_prompts`."""
    names = Names(study)

    @dg.asset(
        key=names.key("source_prompts"),
        deps=upstream(study, "source_prompts"),
        kinds={"diffusers", "pytorch", "duckdb"},
        pool="gpu",
        **names.options("source_prompts"),
    )
    def source_prompts(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """The words in which pictures are described, so that an edit leaves alone what else they show.

        They come from the groups of the corpus whose children exclude each other, and are frozen at the first run: a
        later corpus makes no edit anew. Words that do harm, by the judge of the edits, are not used.
        """
        with clear_errors():
            work = Resources(diffex_results, diffex_editor, diffex_classifiers).deployed(study, log=context.log.info)
            reading = Reading(context, work, "source_prompts")
            announce(context, plan_of(work, "source_prompts"))
            found = find_source_prompts(work)
        return reading.result(
            found.version,
            metadata={
                **table(work.store, "source_prompts", 1),
                **edit_metadata(found.edits),
                "used": bool(found.prompts.used),
                "why": found.prompts.why,
                "words": feature_table(word_rows(found.prompts), {"group": "string", "words": "string"}),
                **({"newer": AGAIN.format(", ".join(found.newer))} if found.newer else {}),
            },
        )

    return [source_prompts]
