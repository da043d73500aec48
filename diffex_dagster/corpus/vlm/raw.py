"""A feature as an answer has it, before it is cleaned, and the words that models use for its fields."""

from __future__ import annotations

from typing import TypedDict

from diffex_dagster.corpus.tree import Direction

MAX_LEVELS = 6  # deeper nesting is prose or an accident; the search has two or three levels


UNNAMED_GROUP = "Other"  # children that came without the name of a group


class RawFeature(TypedDict, total=False):
    """One node as it was sent, tidied but not judged. Only `name` is always there."""

    name: str
    prompt: str
    direction: Direction
    editable: bool
    exclusive: bool
    region: str
    support: int
    citation: str
    children: list[RawFeature]


NAME = ("name", "category", "group", "attribute", "feature", "title", "label", "parent", "keyword", "value", "type")
CHILDREN = (
    "children", "subcategories", "sub_categories", "subfeatures", "sub_features", "subtypes", "sub_types", "attributes",
    "features", "items", "values", "examples", "options", "types", "variants", "keywords", "subattributes",
    "sub_attributes", "fine_grained", "members",
)  # fmt: skip
PROMPT = ("prompt", "edit_prompt", "editprompt", "edit", "edit_text", "phrase")
REGION = ("region", "location", "area", "where", "body_part")
CITATION = ("citation", "source", "passage", "reference")
ASIDE = ("description", "id", "reason", "rationale", "explanation", "confidence", "note", "notes", "comment", "domain",
          "count", "level", "version", "error", "status")  # fmt: skip
WRAPPERS = ("categories", "features", "attributes", "groups", "corpus", "tree", "hierarchy", "semantics", "taxonomy",
             "result", "results", "answer", "data", "output", "response", "json", "feature_tree", "editable_attributes",
             "items", "children")  # fmt: skip
FIELDS = frozenset(
    (*NAME, *CHILDREN, *PROMPT, *REGION, *CITATION, *ASIDE, "direction", "editable", "exclusive", "support")
)
REMOVE = frozenset({"remove", "removal", "delete", "subtract", "negative", "-", "without", "take away"})
