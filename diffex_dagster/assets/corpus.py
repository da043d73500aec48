"""Assets: what the vision-language model proposes, what a person changes about it, and the corpus that results."""

from collections.abc import Sequence

import dagster as dg

from diffex_dagster.assets import kept
from diffex_dagster.assets.common import (
    Names,
    change_metadata,
    clear_errors,
    drops_metadata,
    steps_metadata,
    table_metadata,
    tree_metadata,
)
from diffex_dagster.assets.lineage import Reading, upstream
from diffex_dagster.resources import (
    ClassifierResource,
    EditorResource,
    Resources,
    ResultsResource,
    VLMResource,
    as_deployed,
)
from diffex_dagster.stages import corpus as stage
from diffex_dagster.stages.scores import check_classifier
from diffex_dagster.study import Study


def build(study: Study, classifiers: Sequence[str]) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """`<study>/vlm_corpus`, `<study>/corpus` and its blocking check."""
    names = Names(study)

    @dg.asset(
        key=names.key("vlm_corpus"),
        deps=upstream(study, "vlm_corpus"),
        kinds={"openai", "duckdb"},
        **names.options("vlm_corpus"),
    )
    def vlm_corpus(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_vlm: VLMResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """The features that a vision-language model sees in the sample images, as a tree, cleaned.

        One row of `answers` is one answer of the model; a request that has been answered is not sent again.
        """
        with (
            clear_errors(),
            Resources(diffex_results, diffex_editor, diffex_classifiers, diffex_vlm).working(study) as work,
        ):
            reading, store = Reading(context, work, "vlm_corpus", classifiers), work.store
            proposal = stage.propose(work, classifiers)
            return reading.result(
                stage.tree_version(proposal.corpus),
                metadata={
                    "features": len(list(proposal.corpus.walk())),
                    "calls_made": proposal.calls_made,
                    "calls_reused": proposal.calls_reused,
                    "tokens": proposal.tokens,
                    "price_usd": proposal.price if proposal.price is not None else stage.NO_PRICE,
                    "model": proposal.model,
                    "warnings": list(proposal.warnings),
                    "tree": tree_metadata(proposal.corpus),
                    "cleaning": steps_metadata(proposal.corpus),
                    **table_metadata(store, "answers", proposal.calls_made + proposal.calls_reused),
                },
            )

    @dg.asset(
        key=names.key("corpus"),
        deps=upstream(study, "corpus"),
        kinds={"yaml", "duckdb"},
        **names.options("corpus"),
    )
    def corpus(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """The tree of features that is searched: the proposal with the user overrides merged in.

        One row of `features` is one node of one version of the tree.
        """
        with clear_errors(), Resources(diffex_results, diffex_editor, diffex_classifiers).working(study) as work:
            reading, store = Reading(context, work, "corpus", classifiers), work.store
            for name in classifiers:
                check_classifier(work.subject(name))
            merged, change = stage.merge_edits(work, classifiers)
            return reading.result(
                stage.tree_version(merged),
                metadata={
                    **table_metadata(store, "features", len(list(merged.walk()))),
                    "groups": len(merged.groups),
                    "features_added": len(change.added),
                    "features_removed": len(change.removed),
                    "features_changed": len(change.changed),
                    "features_to_edit": len(change.new_edits),
                    "change": change_metadata(change),
                    "tree": tree_metadata(merged),
                    "dropped": drops_metadata(merged),
                },
            )

    @dg.asset_check(
        asset=corpus,
        blocking=True,
        description="At least one group can be edited, and no two features ask the editor for the same thing.",
    )
    def corpus_can_be_searched(diffex_results: ResultsResource) -> dg.AssetCheckResult:
        with clear_errors():
            current = as_deployed(study, diffex_results)
            tree = diffex_results.store(current).current_corpus(current.kept_as)
            problems = stage.problems(tree, current.search)
        return kept.checked(
            not problems,
            "; ".join(problems) or "ready to be searched",
            {
                "problems": len(problems),
                "groups": len(tree.groups),
                "features_that_can_be_edited": sum(f.editable for f in tree.walk()),
            },
        )

    return [vlm_corpus, corpus, corpus_can_be_searched]
