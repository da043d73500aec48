"""Asset: the attributes that a model would try next. Materialized by hand alone, and applied by nobody but a person."""

from collections.abc import Sequence

import dagster as dg

from diffex_dagster.assets import kept
from diffex_dagster.assets.common import Names, clear_errors, table_metadata
from diffex_dagster.report.markdown_tables import markdown_text
from diffex_dagster.report.wording import plain, share
from diffex_dagster.resources import ClassifierResource, EditorResource, Resources, ResultsResource, VLMResource
from diffex_dagster.stages.corpus import NO_PRICE
from diffex_dagster.stages.settings import stage_version
from diffex_dagster.stages.suggestions import Suggested, suggest
from diffex_dagster.study import Study
from diffex_dagster.utils.hashing import digest


def build(study: Study, classifiers: Sequence[str]) -> list[dg.AssetsDefinition]:
    """`<study>/corpus_suggestions`, where somebody can be asked; in no job, and requested by no automation."""
    if not (study.corpus.vlm and study.corpus.vlm.refines):
        return []
    names = Names(study)

    @dg.asset(
        key=names.key("corpus_suggestions"),
        deps=[names.key(name, "ranked_report") for name in classifiers],
        kinds={"openai", "duckdb"},
        group_name=f"{study.prefix}_shared",
        owners=list(study.owners) or None,
        code_version=stage_version(study, "corpus_suggestions"),
    )
    def corpus_suggestions(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_vlm: VLMResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """The attributes that a vision-language model would try next, after every classifier's report.

        Nothing follows from them. Take them up with `diffex corpus accept`, or write them into the corpus file. One row
        of `round_suggestions` is one of them.
        """
        with (
            clear_errors(),
            Resources(diffex_results, diffex_editor, diffex_classifiers, diffex_vlm).working(study) as work,
        ):
            found = [suggest(work.subject(name)) for name in classifiers]
            prices = [each.answer.usage.price for each in found]
            return kept.materialized(
                digest([[each.classifier, each.corpus_version, list(map(repr, each.suggestions))] for each in found]),
                {
                    "suggestions": dg.MetadataValue.md("\n\n".join(map(in_markdown, found))),
                    "can_be_tried": sum(not one.left_out for each in found for one in each.suggestions),
                    "calls_made": sum(each.answer.usage.made for each in found),
                    "calls_reused": sum(each.answer.usage.reused for each in found),
                    "price_usd": NO_PRICE if None in prices else sum(price or 0.0 for price in prices),
                    **table_metadata(work.store, "round_suggestions", sum(len(each.suggestions) for each in found)),
                },
                {},
            )

    return [corpus_suggestions]


def in_markdown(found: Suggested) -> str:
    """One round. Names and reasons come from a model: they are escaped."""
    lines = [f"### {markdown_text(plain(found.classifier, 60))}"]
    for one in found.suggestions:
        where = f"{one.kind} of {one.under}" if one.under else "new group"
        said = one.why if not one.left_out else f"left out: {one.left_out}"
        lines.append(
            f"- **{markdown_text(plain(one.name, 60))}** ({markdown_text(plain(where, 80))}): "
            f"{markdown_text(plain(said, 300))}"
        )
    for each in found.rounds:
        score = "not known" if each.score is None else f"{share(each.score)} explained"
        lines.append(f"- round {each.round}, corpus {markdown_text(each.corpus_version[:8])}: {score}")
    return "\n".join(lines)
