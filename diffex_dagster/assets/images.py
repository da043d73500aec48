"""Asset: the sample images."""

import dagster as dg

from diffex_dagster.assets.common import SHEET_IMAGES, Names, clear_errors, sheet, table_metadata
from diffex_dagster.assets.lineage import Reading, upstream
from diffex_dagster.report.markdown_tables import markdown_text
from diffex_dagster.resources import ClassifierResource, EditorResource, Resources, ResultsResource
from diffex_dagster.stages.sample_images import sample_images, samples_version
from diffex_dagster.study import Study


def build(study: Study) -> dg.AssetsDefinition:
    """`<study>/sample_images`."""
    names = Names(study)

    @dg.asset(
        key=names.key("sample_images"),
        deps=upstream(study, "sample_images"),
        kinds={"python", "duckdb", "image"},
        pool="gpu" if study.images.predicted else None,  # where a classifier chooses among them
        **names.options("sample_images"),
    )
    def sample_images_asset(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """The images that the classifiers are explained on: upright, square, RGB, at the editor's size.

        One row of `images` is one picture, keyed by the hash of its pixels.
        """
        with clear_errors(), Resources(diffex_results, diffex_editor, diffex_classifiers).working(study) as work:
            reading, store = Reading(context, work, "sample_images"), work.store
            samples = sample_images(work)
            keys = samples.keys
            pictures = list(store.images(list(keys)[:32]).stored.values())
            rows = [("", pictures[i : i + SHEET_IMAGES]) for i in range(0, len(pictures), SHEET_IMAGES)]
            return reading.result(
                samples_version(keys, store.image_columns(work.study.kept_as)),
                metadata={
                    **table_metadata(store, "images", len(keys)),
                    "side_pixels": work.study.images.size,
                    "summary": samples.summary(),
                    "unreadable": dg.MetadataValue.md(
                        "\n".join(f"- {markdown_text(name)}: {markdown_text(why)}" for name, why in samples.unreadable)
                        or "none"
                    ),
                    "images": sheet(rows),
                },
            )

    return sample_images_asset
