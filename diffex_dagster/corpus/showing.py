"""A corpus, and the difference of two, for the terminal. Names come from a model: they are text, never markup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.corpus.wording import tidy


def render_tree(corpus: Corpus, title: str = "Corpus") -> Tree:
    """The tree with prompts, support, regions and sources; what was dropped, and why, stands at its end.

    `Text` takes names literally, and `tidy` takes control characters out, so that a name can neither style the terminal
    nor move its cursor.
    """
    features = list(corpus.walk())
    edits = sum(feature.editable for feature in features)
    head = Text(tidy(title), style="bold")
    head.append(f"  {len(corpus.groups)} groups, {edits} edits, version {corpus.version}", style="dim")
    root = Tree(head, guide_style="dim")

    def grow(branch: Tree, feature: Feature) -> None:
        below = branch.add(_label(feature))
        for child in feature.children:
            grow(below, child)

    for group in corpus.groups:
        grow(root, group)
    if corpus.drops:
        dropped = root.add(Text(f"dropped ({len(corpus.drops)})", style="yellow"))
        for drop in corpus.drops:
            dropped.add(Text(tidy(drop.name)).append(f"  {tidy(drop.reason)}", style="dim"))
    return root


def _label(feature: Feature) -> Text:
    label = Text(tidy(feature.name), style="bold" if feature.level == 1 else "")
    if feature.editable:
        sign = "−" if feature.direction == "remove" else "+"
        label.append(f"  {sign} {tidy(feature.prompt)}", style="red" if feature.direction == "remove" else "green")
    else:
        label.append("  no edit itself", style="dim italic")
    if feature.exclusive is not None:
        label.append("  one of" if feature.exclusive else "  any of", style="dim italic")
    if feature.support is not None:
        label.append(f"  ×{feature.support}", style="cyan")
    if feature.region:
        label.append(f"  @{tidy(feature.region)}", style="dim")
    if feature.source != "vlm":
        label.append(f"  [{tidy(feature.source)}]", style="magenta")
    return label


@dataclass(frozen=True)
class Change:
    """A feature that both versions have, with what is different: (field, before, after)."""

    feature: Feature
    fields: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class CorpusDiff:
    """What `after` has that `before` does not, and the other way round."""

    added: tuple[Feature, ...]
    removed: tuple[Feature, ...]
    changed: tuple[Change, ...]
    new_edits: tuple[Feature, ...]
    """Features of the new version whose prompt and direction no feature of the old one had."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __rich__(self) -> RenderableType:
        if not self:
            return Text("no difference", style="dim")
        return Group(*self._lines())

    def _lines(self) -> Iterator[Text]:
        for feature in self.added:
            yield Text(f"+ {tidy(feature.id)}  ", style="green").append_text(_label(feature))
        for feature in self.removed:
            yield Text(f"- {tidy(feature.id)}  ", style="red").append_text(_label(feature))
        for change in self.changed:
            what = "; ".join(f"{name}: {tidy(old)} → {tidy(new)}" for name, old, new in change.fields)
            yield Text(f"~ {tidy(change.feature.id)}  ", style="yellow").append(what)
        yield Text(f"{len(self.new_edits)} features need new edits", style="dim")


_COMPARED = ("name", "prompt", "direction", "editable", "region", "support", "source", "exclusive")


def diff(before: Corpus, after: Corpus) -> CorpusDiff:
    """What changed from one corpus to another.

    A feature that only moved or was renamed (same prompt, same direction, another id) is one change, not a removal and
    an addition. Order and drops do not count.
    """
    old = {feature.id: feature for feature in before.walk()}
    new = {feature.id: feature for feature in after.walk()}
    gone = {_edit(old[one]): old[one] for one in old if one not in new}
    pairs = [(old[one], new[one]) for one in new if one in old]
    added = []
    for one in new:
        if one not in old:
            if moved := gone.pop(_edit(new[one]), None):
                pairs.append((moved, new[one]))
            else:
                added.append(new[one])
    paired = {was.id for was, _ in pairs}
    changed = []
    for was, now in pairs:
        fields = tuple(
            (name, str(getattr(was, name)), str(getattr(now, name)))
            for name in ("id", *_COMPARED)
            if getattr(was, name) != getattr(now, name)
        )
        if fields:
            changed.append(Change(now, fields))
    known = {(feature.prompt, feature.direction) for feature in before.walk() if feature.editable}
    return CorpusDiff(
        added=tuple(added),
        removed=tuple(feature for feature in old.values() if feature.id not in paired),
        changed=tuple(changed),
        new_edits=tuple(
            feature for feature in after.walk() if feature.editable and (feature.prompt, feature.direction) not in known
        ),
    )


def _edit(feature: Feature) -> tuple[str, str, bool]:
    return feature.prompt, feature.direction, feature.editable
