"""The figures of `gpu_check` as the tables of docs/speed.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diffex_dagster.bench.contenders import TITLES
from diffex_dagster.bench.pages import table, write_between

Figures = dict[str, Any]
AIMS = {"vs_authors": 6.0, "vs_invert_once": 4.0, "of_limit": 0.85}
MARK = "gpu-check"
_PHASES = {
    "edit_with_masks": "denoising with guidance",
    "invert": "inverting",
    "decode": "decoding",
    "encode": "encoding",
    "other": "the rest (pictures in and out)",
}


def as_markdown(figures: Figures) -> str:
    """Every section of a check as text and tables; what failed or was left out is named."""
    notes = figures.get("notes", {})
    runs = figures.get("runs", 1)
    paragraphs = [_machine(figures["machine"]) + (f" {runs} runs on one machine." if runs > 1 else "")]
    paragraphs += [f"*{name}*: {note}" for name, note in notes.items()]
    figures = {name: found for name, found in figures.items() if name not in notes}
    for name, found in figures.items():
        if not isinstance(found, dict) or "seconds" not in found:
            continue
        if "error" in found:
            paragraphs.append(f"*{name}*: failed ({found['error']}).")
    late = [name for name, found in figures.items() if isinstance(found, dict) and "left_out" in found]
    if late:
        paragraphs.append(f"Left out for want of time: {', '.join(late)}.")
    for name, found in figures.items():
        if name.startswith("speed ") and "ratios" in found:
            paragraphs += [*_speed(name.removeprefix("speed "), found)]
    parity = {name: found for name, found in figures.items() if name.startswith("parity ") and "none" in found}
    if parity:
        paragraphs += ["**Parity with diffusers' pipeline**, one edit in the same number format:", _parity(parity)]
    for name, found in figures.items():
        if name.startswith("same bits ") and "again" in found:
            paragraphs.append(_bits(found))
    if "same_edits" in figures.get("two processes", {}):
        paragraphs.append(_two(figures["two processes"]))
    if "same_edits" in figures.get("two workers", {}):
        paragraphs.append(_workers(figures["two workers"]))
    for name, found in figures.items():
        if name.startswith("rows ") and "channels_last" in found:
            paragraphs += [f"**A UNet row** of {name.removeprefix('rows ')}, in milliseconds:", _rows(found)]
        if name.startswith("operators ") and "operators" in found:
            paragraphs += [*_operators(name.removeprefix("operators "), found)]
    return "\n\n".join(paragraphs) + "\n"


def merged(runs: Sequence[Figures]) -> Figures:
    """The figures of several runs on one machine: a section is that of the first run that measured it.

    Raises:
        ValueError: the runs were made on different machines.
    """
    whole = {**runs[0], "runs": len(runs), "total_seconds": sum(run["total_seconds"] for run in runs)}
    for run in runs[1:]:
        if {**run["machine"], "seconds": 0} != {**whole["machine"], "seconds": 0}:
            raise ValueError("the runs were made on different machines: give each a page of its own")
        for name, found in run.items():
            if name not in whole or (isinstance(whole[name], dict) and "left_out" in whole[name]):
                whole[name] = found
    return whole


def write_into(page: Path, figures: Figures, mark: str = MARK) -> None:
    """Put the tables between two marks of the page.

    Args:
        page: a Markdown file.
        figures: of one check.
        mark: the marks' name. A page that shows several runs has a pair for each.

    Raises:
        ValueError: the page has no such marks.
    """
    write_between(page, mark, as_markdown(figures))


def _machine(found: Figures) -> str:
    device = f"{found['gpu']} ({found['gpu_gb']:.0f} GB)" if "gpu" in found else found["device"]
    driver = (found.get("nvidia_smi") or "").split(", ")[1:2]
    processor = [found["processor"]] if found.get("processor") else []
    parts = [device, *[f"driver {each}" for each in driver], *processor, f"{found['half']}"]
    parts += [f"{name} {found[name]}" for name in ("torch", "diffusers", "transformers") if found.get(name)]
    return f"Measured on {', '.join(parts)}; random weights."


def _speed(size: str, found: Figures) -> Iterator[str]:
    plan, samples = found["plan"], found["samples"]
    yield (
        f"**{size}**: {plan['pictures']} pictures towards {plan['prompts']} prompts each, {plan['steps']} steps, mask "
        f"`intersection`, {len(samples['engine'])} round{'s' if len(samples['engine']) > 1 else ''}."
    )
    yield table(
        ["contender", "ms an edit", "UNet rows an edit", "edits timed"],
        [
            [
                title.format(batch=found["batch"]), f"{found['ms_per_edit'][name]:.0f}",
                f"{samples[name][-1]['rows'] / (samples[name][-1]['edits'] or samples['engine'][-1]['edits']):.1f}",
                str(samples[name][-1]["edits"] or "–"),
            ]
            for name, title in TITLES.items()
        ],
    )  # fmt: skip
    yield table(
        ["ratio", "median", "smallest and largest round", "aim"],
        [
            [
                name, f"{ratio['median']:.2f}", f"{ratio['low']:.2f}, {ratio['high']:.2f}",
                f"{AIMS[name]:g}: {'met' if ratio['median'] >= AIMS[name] else 'missed'}" if name in AIMS else "–",
            ]
            for name, ratio in found["ratios"].items()
        ],
    )  # fmt: skip
    yield table(
        ["edits at a time", "ms an edit", "peak GPU memory, GB"],
        [
            [batch, f"{1000 * sample['seconds'] / sample['edits']:.0f}", f"{sample['peak_mb'] / 1024:.1f}"]
            for batch, sample in found["batches"].items()
        ],
    )
    whole = found["phases"]["whole"]
    shares = [f"{what} {found['phases'].get(name, 0) / whole:.1%}" for name, what in _PHASES.items()]
    yield f"Of the engine's time for one picture's edits: {', '.join(shares)}."


def _parity(parity: Figures) -> str:
    rows = []
    for name, found in parity.items():
        for mask in ("intersection", "none"):
            of = found[mask]
            rows.append(
                [
                    f"{name.removeprefix('parity ')}, mask `{mask}`", f"{of['latents_mean']:.1e}",
                    f"{of['latents_max']:.1e}", f"{of['edit_mean']:.2f}", f"{of['pixels_mean']:.3f}",
                    f"{of['pixels_more_than_1']:.2%}",
                ]
            )  # fmt: skip
    head = ["", "latents apart, mean", "largest", "the edit itself, mean", "pixels apart, of 255", "by more than 1"]
    return table(head, rows)


def _bits(found: Figures) -> str:
    same = all(found[name]["edits_that_differ"] == 0 for name in ("again", "resumed", "backwards"))
    counts = {
        name: f"{found[name]['edits_that_differ']} of {found[name]['edits']}" for name in ("resumed", "backwards")
    }
    other = found["other_batches"]
    masks = f", {other['masks_that_differ']} of them in their masks" if "masks_that_differ" in other else ""
    return (
        f"**The same bits**: {'yes' if same else 'no'}. {found['edits']} edits in batches of "
        f"{', '.join(map(str, found['batches']))}. Made by a run that goes on after the first batch, "
        f"{counts['resumed']} differ; made batch by batch in reverse order, {counts['backwards']}. In batches half as "
        f"large, {other['edits_that_differ']} of {other['edits']} differ{masks}, in {_share(other['share_of_values'])} "
        f"of their values"
        + (f" and by {other['mean']:.2f} of 255 on average, {other['most']} at most." if "mean" in other else ".")
    )


def _share(share: float) -> str:
    return f"{share:.0%}" if share > 0.01 else f"{share:.1e}"


def _two(found: Figures) -> str:
    same = "the same bits" if found["edits_that_differ"] == 0 else f"{found['edits_that_differ']} that differ"
    gb = ", ".join(f"{mb / 1024:.1f}" for mb in found["peak_mb_each"])
    return (
        f"**Two processes on one device**, each with every other batch and without the pool that shares work: "
        f"{found['edits']} edits, {same}, in {found['seconds_two_processes']:.1f} s instead of "
        f"{found['seconds_one_process']:.1f} s by one process; {gb} GB of the device's memory."
    )


def _workers(found: Figures) -> str:
    same = "the same bits" if found["edits_that_differ"] == 0 else f"{found['edits_that_differ']} that differ"
    alone, crew = found["alone"], found["workers"]
    return (
        f"**Two workers on one device** (`gpus: {found['gpus_each']:g}`), through the pool that shares work: "
        f"{found['edits']} edits, {same}, {crew['edits_per_second']:.1f} a second instead of "
        f"{alone['edits_per_second']:.1f} by one process, {' and '.join(map(str, crew['made_by_each']))} by each; the "
        f"process in charge works for {crew['process_seconds'] / crew['seconds']:.1%} of that time."
    )


def _rows(found: Figures) -> str:
    sizes = sorted(found["channels_last"], key=int)
    kinds = {name: of for name, of in found.items() if isinstance(of, dict) and "error" not in of}
    return table(
        ["", *[f"{size} at once" for size in sizes]],
        [[name.replace("_", " "), *[f"{of[s]:.2f}" if s in of else "–" for s in sizes]] for name, of in kinds.items()],
    )


def _operators(size: str, found: Figures) -> Iterator[str]:
    busy = found["busy_seconds"] / found["seconds_profiled"]
    yield (
        f"**{size} under the profiler**: the device is busy for {busy:.0%} of {found['seconds_profiled']:.1f} s "
        f"({found['edits']} edits; the profiler itself takes time). Its kernels by their time:"
    )
    total = 1000 * found["busy_seconds"]
    shown = [[f"`{o['name'][:70]}`", f"{o['ms'] / total:.1%}", str(o["calls"])] for o in found["operators"][:10]]
    yield table(["kernel", "share", "calls"], shown)
