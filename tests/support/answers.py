"""A corpus as a model would have answered it."""

from __future__ import annotations

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.corpus.vlm.raw import RawFeature


def raw_from_tree(corpus: Corpus) -> list[RawFeature]:
    """The raw tree of a corpus, for printing it as JSON. `tree_from_raw` gives the same corpus back."""

    def raw(feature: Feature) -> RawFeature:
        node = RawFeature(
            name=feature.name, prompt=feature.prompt, direction=feature.direction, editable=feature.editable
        )
        if feature.region is not None:
            node["region"] = feature.region
        if feature.exclusive is not None:
            node["exclusive"] = feature.exclusive
        if feature.support is not None:
            node["support"] = feature.support
        if feature.citation is not None:
            node["citation"] = feature.citation
        if feature.children:
            node["children"] = [raw(child) for child in feature.children]
        return node

    return [raw(group) for group in corpus.groups]
