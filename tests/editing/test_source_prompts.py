"""Source prompts: the words, what an edit's text becomes, and that the engine's arithmetic follows them."""

from __future__ import annotations

import functools
import pickle
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffex_dagster.editing.calibration import in_words
from diffex_dagster.editing.diffusion_classifier import noise_error
from diffex_dagster.editing.edit_plan import Edit, GuidedConcept
from diffex_dagster.editing.engine import Engine
from diffex_dagster.editing.guidance import Guidance
from diffex_dagster.editing.image_prompts import prompter_of
from diffex_dagster.editing.ledits import LeditsEditor
from diffex_dagster.editing.ledits_edits import guided_concept
from diffex_dagster.editing.ledits_options import LeditsOptions
from diffex_dagster.editing.models import Texts
from diffex_dagster.editing.pixels import picture_tensor
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.editing.settings import read_setting
from diffex_dagster.editing.source_prompts import AGAIN, LEVELS, SURE, source_prompt_of
from diffex_dagster.editing.vocabulary import VocabularyGroup, among, may_not_fit, prompt_of, prompt_without, room_of
from diffex_dagster.stages.edits import ensure_edits
from diffex_dagster.stages.setup import build_editor
from diffex_dagster.store import Store
from diffex_dagster.study import load_study
from diffex_dagster.workers.bench import Bench, Problem
from diffex_dagster.workers.remote import RemoteEditor
from diffex_dagster.worlds import avatars
from tests.support.parity import distance

ROOT = Path(__file__).parent.parent.parent
VOCABULARY = {
    "hair": VocabularyGroup(words=("an afro", "a bob"), also=("a hat",)),
    "beard": VocabularyGroup(words=("a goatee", "a full beard"), none="a clean shaven face", also=("facial hair",)),
    "eyewear": VocabularyGroup(words=("glasses", "an eyepatch"), optional=True, kinds={"lenses": ("glasses",)}),
}
SHOWN = (("hair", "an afro"), ("beard", "a goatee"), ("eyewear", "glasses"))


def test_a_concept_takes_the_place_of_what_it_replaces() -> None:
    assert prompt_of(SHOWN) == "an afro, a goatee, glasses" and prompt_of(()) == ""
    assert among("a bob", SHOWN, VOCABULARY) == ((), "a bob", ("a goatee", "glasses"))
    assert among("a full beard", SHOWN, VOCABULARY) == (("an afro",), "a full beard", ("glasses",))
    assert among("freckles", SHOWN, VOCABULARY) == ((), "freckles", ("an afro", "a goatee", "glasses"))
    assert among("freckles", (), VOCABULARY) == ((), "freckles", ())


def test_a_coarser_word_changes_nothing_that_it_covers() -> None:
    patch = (*SHOWN[:2], ("eyewear", "an eyepatch"))
    assert among("lenses", SHOWN, VOCABULARY) == (("an afro", "a goatee"), "glasses", ())
    assert among("lenses", patch, VOCABULARY) == (("an afro", "a goatee"), "lenses", ())
    assert among("facial hair", SHOWN, VOCABULARY)[1] == "facial hair"  # nobody said what it covers
    assert prompt_without("lenses", SHOWN, VOCABULARY) == "an afro, a goatee"


def test_removing_leads_to_the_words_for_nothing_or_to_none() -> None:
    assert prompt_without("facial hair", SHOWN, VOCABULARY) == "an afro, a clean shaven face, glasses"
    assert prompt_without("glasses", SHOWN, VOCABULARY) == "an afro, a goatee"
    assert prompt_without("glasses", SHOWN[:2], VOCABULARY) is None  # it shows none, as far as is known
    assert prompt_without("an afro", SHOWN, VOCABULARY) is None  # nobody said how no hair looks
    assert prompt_without("freckles", SHOWN, VOCABULARY) is None


def test_a_concept_is_read_whatever_the_picture_shows() -> None:
    """Four tokens are read: what stands before a concept makes room for it, what a picture lacks is not removed."""
    shown = tuple((f"g{i}", f"w{i}") for i in range(6))
    last = VocabularyGroup(words=("w5", "other"), optional=True)
    vocabulary = {f"g{i}": VocabularyGroup(words=(f"w{i}",)) for i in range(5)} | {"g5": last}

    def reads(prompt: str) -> bool:
        return len(prompt.split()) <= 4

    assert among("other", shown, vocabulary, reads) == (("w0", "w1", "w2"), "other", ())
    assert among("other one", shown, {**vocabulary, "g5": VocabularyGroup(words=("w5", "other one"))}, reads)[0] == (
        "w0",
        "w1",
    )
    assert among("w3", shown, vocabulary, reads) == (("w0", "w1", "w2"), "w3", ("w4", "w5"))  # as without a limit
    other = {**vocabulary, "g5": VocabularyGroup(words=("w5",), also=("a b c d e",))}
    assert among("a b c d e", shown, other, reads)[0] == ()
    bare = VocabularyGroup(words=("w5",), none="nothing")
    assert prompt_without("w5", shown, {**vocabulary, "g5": bare}, reads) == "w0, w1, w2, nothing"
    assert prompt_without("w5", shown, vocabulary) == "w0, w1, w2, w3, w4"
    assert prompt_without("w5", shown, vocabulary, reads) is None  # nobody reads that the picture shows it


def test_an_edit_of_a_long_description_is_guided_by_its_concept(checkpoint: Path) -> None:
    """The model reads ten tokens, which the words before the one that is replaced take."""
    words = ("an afro", "a bob", "a hat", "hat", "bob")
    vocabulary = {
        f"g{i}": VocabularyGroup(words=(word,), also=("fez",) if word == "bob" else ()) for i, word in enumerate(words)
    }
    editor = LeditsEditor(LeditsOptions(checkpoint=str(checkpoint), steps=4, device="cpu", source_prompts=vocabulary))
    assert editor.tokens(", ".join(words[:4])) >= editor.most_tokens
    shown: Any = SimpleNamespace(shows=tuple((f"g{i}", word) for i, word in enumerate(words)))
    guided, shortened = guided_concept(editor.engine(), shown, Concept("fez"), editor.options, 0.0)
    assert shortened
    assert guided.text.words.sum() == editor.tokens("fez")


def described(vocabulary: dict[str, VocabularyGroup], explains: dict[str, float], reads: int) -> Any:
    """What `source_prompt_of` finds where each word explains so much of the picture, alone and beside others."""

    asked: list[str] = []

    def errors(_: Any, __: Any, prompts: list[list[str]], levels: Any, ___: int) -> list[torch.Tensor]:
        assert not set(asked) & set(prompts[0])  # each is looked at once
        asked.extend(prompts[0])
        found = [-sum(explains[word] for word in prompt.split(", ") if word) for prompt in prompts[0]]
        return [torch.tensor(found, dtype=torch.float64)[:, None].expand(-1, len(levels))]

    components = SimpleNamespace(tokens=lambda prompt: len(prompt.replace(",", " ,").split()), limit=reads + 2)
    engine: Any = SimpleNamespace(components=components)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffex_dagster.editing.diffusion_classifier.errors", errors)
        return source_prompt_of(engine, torch.zeros(4, 8, 8), vocabulary, rows=32)


def test_short_of_tokens_what_explains_most_of_a_picture_stays() -> None:
    vocabulary = {
        name: VocabularyGroup(words=(name, f"no {name}"), optional=True) for name in ("cap", "coat", "sky", "ring")
    }
    explains = {"cap": 3.0, "coat": 5.0, "sky": 9.0, "ring": 1.0} | {f"no {n}": -1.0 for n in vocabulary}
    whole = tuple((name, name) for name in vocabulary)
    assert described(vocabulary, explains, reads=12) == (whole, ())
    assert described(vocabulary, explains, reads=5) == (whole[1:3], ("ring", "cap"))  # a quarter is the concept's
    turned = dict(reversed(vocabulary.items()))
    shown, cut = described(turned, explains, reads=5)
    assert (set(shown), cut) == (set(whole[1:3]), ("ring", "cap"))  # whatever the order of the groups
    assert described(vocabulary, explains | {"ring": -2.0}, reads=6) == (whole[:3], ())  # it shows no ring


def test_a_list_s_order_is_part_of_what_edits_depend_on_where_it_may_be_cut() -> None:
    words = {name: VocabularyGroup(words=(name,)) for name in ("cap", "coat", "sky")}

    def tokens(prompt: str) -> int:
        return len(prompt.replace(",", " ,").split())

    assert not may_not_fit(words, tokens, 6) and may_not_fit(words, tokens, 5)
    assert room_of(words, tokens, 7) == 6 and room_of(words, tokens, 100) == 98


def engine_for(checkpoint: Path, steps: int = 5) -> Engine:
    options = LeditsOptions(checkpoint=str(checkpoint), steps=steps, skip=0)
    return Engine(checkpoint, options, torch.device("cpu"), torch.float32)


def latents_of(engine: Engine, images: dict[str, Image.Image]) -> torch.Tensor:
    return engine.encode(torch.stack([picture_tensor(each, engine.resolution) for each in images.values()]))


def test_a_picture_keeps_its_words_whatever_its_batch(
    checkpoint: Path, images: dict[str, Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_for(checkpoint)
    monkeypatch.setattr("diffex_dagster.editing.source_prompts.room_of", lambda *_: 100)  # this one reads ten tokens
    for picture in latents_of(engine, dict(list(images.items())[:2])):
        shown, cut = source_prompt_of(engine, picture, VOCABULARY, rows=32)
        assert (shown, cut) == source_prompt_of(engine, picture, VOCABULARY, rows=2)
        said = dict(shown)
        assert said["hair"] in VOCABULARY["hair"].words and said["beard"] in VOCABULARY["beard"].candidates
    assert source_prompt_of(engine, picture, {}, rows=32) == ((), ())


def test_descriptions_are_those_of_evidence_asked_for_word_by_word(
    checkpoint: Path, images: dict[str, Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However draws and prompts share batches: what is described differently would be edited from another inversion
    than the null edit, under the same fingerprint.
    """
    engine = engine_for(checkpoint)
    monkeypatch.setattr("diffex_dagster.editing.source_prompts.room_of", lambda *_: 100)  # this one reads ten tokens
    for clean in latents_of(engine, {"one": images["one"]}):

        @functools.cache
        def wrong(prompt: str, draw: int, clean: torch.Tensor = clean) -> float:
            """How wrong the model is about the noise of one draw, asked for by itself."""
            step = min(engine.steps, key=lambda each: abs(each.timestep - LEVELS[draw] * engine.train_timesteps))
            noise = torch.randn(tuple(clean.shape), generator=torch.Generator().manual_seed(draw))
            x, text = step.noised(clean[None], noise), Texts.stack([engine.text(prompt)])
            with torch.no_grad():
                output, _ = engine.predict(x, torch.full((1,), step.timestep), text, None, 1)
            return float(noise_error(step, clean[None], x, output))

        def explains(prompt: str, wrong: Callable[[str, int], float] = wrong) -> np.ndarray:
            return np.array([wrong("", draw) - wrong(prompt, draw) for draw in range(len(LEVELS))])

        found, tried = dict[str, str | None](), dict[str, list[str | None]]()
        for group, words in VOCABULARY.items():
            best = sorted(words.candidates, key=lambda word: -explains(word).mean())[:AGAIN]
            evidence = explains(best[0])
            sure = evidence.mean() > SURE * evidence.std(ddof=1) / len(LEVELS) ** 0.5
            found[group] = best[0] if sure or not words.optional else None
            tried[group] = [*best, *([None] if words.optional else [])]
        for group, candidates in tried.items():
            prompts = [", ".join(filter(None, (found | {group: word}).values())) for word in candidates]
            found[group] = candidates[int(np.argmax([explains(prompt).mean() for prompt in prompts]))]
        shown = tuple((group, word) for group, word in found.items() if word)
        assert source_prompt_of(engine, clean, VOCABULARY, rows=32) == (shown, ())


def test_only_the_concept_s_own_tokens_are_read_for_its_mask(checkpoint: Path) -> None:
    engine = engine_for(checkpoint)
    own, before = engine.components.tokens("hat"), engine.components.tokens("bob, ")
    text = engine.text_among(["bob"], "hat", [])
    assert text.words.nonzero().flatten().tolist() == list(range(1 + before, 1 + before + own))
    assert torch.equal(text.embedding, engine.text("bob, hat").embedding)
    first = engine.text_among([], "hat", ["bob"])
    assert first.words.nonzero().flatten().tolist() == list(range(1, 1 + own))
    assert torch.equal(engine.text_among([], "hat", []).words, engine.text("hat").words)


def test_inverting_and_editing_under_a_description(checkpoint: Path, images: dict[str, Image.Image]) -> None:
    """With the source prompt in place of the empty one, the engine is what it was with the empty one."""
    engine = engine_for(checkpoint)
    latents = latents_of(engine, images)
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    shows = [SHOWN, (), SHOWN[:1]]
    described = engine.invert(latents, generators, shows=shows)
    for inversion, clean in zip(described, latents, strict=True):
        assert distance(inversion.latents[-1], clean) < 1e-4  # null edits stay exact
    assert described[0].shows == SHOWN

    guidance = Guidance(6.0, 0.5, "noise", 0, None)
    edits = [Edit(each, (GuidedConcept(engine.text("a bob, a goatee"), 1.0, guidance),)) for each in described]
    made = engine.edit(edits)
    assert distance(made[0], latents[0]) > 1e-3
    # The same by hand: an engine whose empty prompt is the description.
    by_hand = engine_for(checkpoint)
    encode = by_hand.components.encode
    by_hand.text = lambda prompt: encode(prompt or prompt_of(SHOWN))  # type: ignore[assignment, method-assign]
    [inversion] = by_hand.invert(latents[:1], [torch.Generator().manual_seed(0)])
    concept = GuidedConcept(by_hand.text("a bob, a goatee"), 1.0, guidance)
    assert distance(by_hand.edit([Edit(inversion, (concept,))])[0], made[0]) < 1e-4
    # An edit towards what the picture is said to show changes nothing.
    same = GuidedConcept(engine.text(prompt_of(SHOWN)), 1.0, guidance)
    assert distance(engine.edit([Edit(described[0], (same,))])[0], latents[0]) < 1e-4


@pytest.mark.parametrize("mask", ["intersection", "none"])
def test_the_editor_describes_and_keeps_what_it_found(
    checkpoint: Path, images: dict[str, Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: str
) -> None:
    options = LeditsOptions(
        checkpoint=str(checkpoint), steps=5, scale=6, mask=mask, device="cpu", source_prompts=VOCABULARY,
        inversion_folder=tmp_path,
    )  # fmt: skip
    asked = [Concept("a bob"), Concept("facial hair", "remove"), Concept("freckles", "remove")]
    requests = [EditRequest("one", (concept,)) for concept in asked]

    def edited() -> list[Image.Image]:
        return [picture for batch in LeditsEditor(options).edit(images, requests) for _, picture in batch]

    first = edited()
    monkeypatch.setattr(
        "diffex_dagster.editing.ledits_inversions.source_prompt_of", lambda *rest: pytest.fail("described twice")
    )
    assert [a.tobytes() for a in edited()] == [b.tobytes() for b in first]
    plain = options.model_copy(update={"source_prompts": "none"})
    other = options.model_copy(update={"source_prompts": {"hair": VOCABULARY["hair"]}})
    assert len({LeditsEditor(each).fingerprint for each in (options, plain, other)}) == 3
    # Words that are found out are an editor's as words that are written: the same fingerprint, on one model.
    auto = LeditsEditor(plain.model_copy(update={"source_prompts": "auto"}))
    assert auto.fingerprint == LeditsEditor(plain).fingerprint == auto.with_source_prompts({}).fingerprint
    told = auto.with_source_prompts(VOCABULARY)
    assert told.fingerprint == LeditsEditor(options).fingerprint and told is auto.with_source_prompts(VOCABULARY)
    assert told.engine() is auto.engine() and (auto.tokens("a bob"), auto.most_tokens) == (4, 10)
    assert auto.options.vocabulary == {} and told.options.vocabulary == VOCABULARY


def plain_and_told(checkpoint: Path) -> tuple[LeditsEditor, LeditsEditor]:
    """An editor that describes nothing, and the same one told in what words to describe."""
    options = LeditsOptions(
        checkpoint=str(checkpoint), steps=4, scale=6, mask="none", device="cpu", source_prompts="none"
    )
    plain = LeditsEditor(options)
    return plain, plain.with_source_prompts(VOCABULARY)


def test_a_concept_may_be_edited_without_the_picture_s_description(
    checkpoint: Path, images: dict[str, Image.Image]
) -> None:
    """As by an editor that describes nothing, beside edits that follow the description, and tried by calibration."""
    plain, told = plain_and_told(checkpoint)
    options = plain.options
    setting = options.own.model_copy(update={"described": False})
    assert "described" not in options.own.text and read_setting(setting.text) == setting

    def edited(editor: LeditsEditor, *texts: str) -> list[Image.Image]:
        requests = [EditRequest("one", (Concept("a bob", setting=text),)) for text in texts]
        made = {r: picture for batch in editor.edit(images, requests) for r, picture in batch}
        return [made[request] for request in requests]

    [wanted] = edited(plain, "")
    followed, apart = edited(told, "", setting.text)
    assert distance_of(apart, wanted) <= 1 < distance_of(followed, wanted)  # of 255: rounding, in another batch
    together = EditRequest("one", (Concept("a bob"), Concept("glasses", setting=setting.text)))
    assert not told.options.described_of(together) and told.options.described_of(EditRequest("one"))
    tried = [read_setting(each) for each in told.variants("")]
    assert not tried[0].described and all(each.described for each in tried[1:])
    assert setting.text in told.settings() and in_words(setting.text).endswith("words none")
    assert all(read_setting(each).described for each in plain.settings() if each)
    # Where null edits depend on the inversion, no edit without the description is held against one with it.
    for inexact in ({"correct_end": False}, {"zero_noise_steps": 2}):
        other = LeditsEditor(options.model_copy(update={**inexact, "source_prompts": VOCABULARY}))
        assert all(read_setting(each).described for each in other.settings() if each), inexact
        assert all(read_setting(each).described for each in other.variants("") if each), inexact


def test_a_joint_edit_of_mixed_settings_is_described_where_all_of_its_concepts_are(
    checkpoint: Path, images: dict[str, Image.Image]
) -> None:
    """Without the description it is what an editor that describes nothing makes of the same concepts."""
    plain, told = plain_and_told(checkpoint)
    options = plain.options
    setting = options.own.model_copy(update={"described": False}).text

    def edited(editor: LeditsEditor, second: str) -> Image.Image:
        request = EditRequest("one", (Concept("a bob"), Concept("glasses", setting=second)))
        [[(_, picture)]] = editor.edit(images, [request])
        return picture

    wanted = edited(plain, "")
    assert distance_of(edited(told, setting), wanted) <= 1 < distance_of(edited(told, ""), wanted)


def test_a_description_that_was_cut_is_counted_once(
    checkpoint: Path, images: dict[str, Image.Image], caplog: pytest.LogCaptureFixture
) -> None:
    """However many seeds it is edited under, and however often a batch is made again for want of memory."""
    words = {"hair": VocabularyGroup(words=("an afro with many long words", "a bob")), "face": VOCABULARY["hair"]}
    editor = LeditsEditor(
        LeditsOptions(
            checkpoint=str(checkpoint), steps=3, scale=6, mask="none", device="cpu", source_prompts=words, batch_size=4
        )
    )
    make, tries = editor._make, []

    def short_of_memory_once(*given: Any) -> Any:
        made = make(*given)
        tries.append(given)
        if len(tries) == 1:
            raise RuntimeError("CUDA out of memory")
        return made

    editor._make = short_of_memory_once  # type: ignore[method-assign]
    long = Concept("a small round red and blue ring with a very long name")
    requests = [EditRequest("one", (long,), seed) for seed in (0, 1, 2)]
    assert sum(len(batch) for batch in editor.edit(images, requests)) == 3 and len(tries) > 1
    assert {prompt for _, prompt in editor.shortened} <= {"", long.prompt} and 1 <= len(editor.shortened) <= 2
    assert f"{len(editor.shortened)} source prompts, of images and in edits, were shortened" in caplog.text
    before = set(editor.shortened)
    caplog.clear()
    list(editor.edit(images, requests))
    assert editor.shortened == before and "were shortened" not in caplog.text


@pytest.mark.slow
def test_a_second_process_describes_no_picture_again(
    checkpoint: Path, images: dict[str, Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    keys = list(store.put_images(images).values())

    def made(words: Mapping[str, VocabularyGroup], prompt: str, **options: Any) -> LeditsEditor:
        given = {"steps": 3, "mask": "none", "device": "cpu", "source_prompts": words, **options}
        editor = LeditsEditor(LeditsOptions(checkpoint=str(checkpoint), **given))  # as a process of its own has it
        ensure_edits(store, editor, [EditRequest(key, (Concept(prompt),)) for key in keys])
        return editor

    def edited(editor: LeditsEditor, prompt: str) -> list[Image.Image]:
        asked = [EditRequest(key, (Concept(prompt),)) for key in keys]
        return [picture for batch in editor.edit(store.images(keys), asked) for _, picture in batch]

    first = made(VOCABULARY, "a bob")
    kept = store.image_prompts(keys, first.describer)
    assert set(kept) == set(keys) and first.fingerprint not in {first.describer, ""}
    wanted = [picture.tobytes() for picture in edited(first, "glasses")]  # by the process that described them

    finds = source_prompt_of
    found: list[int] = []
    monkeypatch.setattr(
        "diffex_dagster.editing.ledits_inversions.source_prompt_of", lambda *of: found.append(1) or finds(*of)
    )
    second = made(VOCABULARY, "glasses")
    assert not found and store.image_prompts(keys, second.describer) == kept
    assert [picture.tobytes() for picture in edited(second, "glasses")] == wanted
    skipping = second.options.own.model_copy(update={"skip": 0.5}).text
    ensure_edits(store, second, [EditRequest(key, (Concept("a bob", setting=skipping),)) for key in keys])
    assert not found  # a picture shows what it shows, whatever an edit of it skips

    for words, others in ((dict(reversed(VOCABULARY.items())), {}), (VOCABULARY, {"steps": 4})):
        found.clear()
        other = made(words, "a bob" if others else "a hat", **others)
        assert len(found) == len(keys) and other.describer != first.describer
    alike, plain = ({"batch_size": 4, "scale": 3.0}, {"source_prompts": "none"})
    assert LeditsEditor(first.options.model_copy(update=alike)).describer == first.describer
    assert LeditsEditor(first.options.model_copy(update=plain)).describer == "" == prompter_of(object())


def test_other_rules_of_describing_are_another_editor_where_pictures_are_described(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prints(words: Any) -> tuple[str, str]:
        options = LeditsOptions(checkpoint=str(checkpoint), steps=3, device="cpu", source_prompts=words)
        editor = LeditsEditor(options)
        return editor.fingerprint, editor.describer

    described, plain = prints(VOCABULARY), prints("none")
    monkeypatch.setattr("diffex_dagster.editing.vocabulary.DESCRIBING", 2)
    assert all(a != b for a, b in zip(described, prints(VOCABULARY), strict=True)) and plain == prints("none")


def test_a_worker_that_describes_by_other_rules_is_refused(
    checkpoint: Path, images: dict[str, Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The editor without words, which it has said it is, is the same one."""
    options = LeditsOptions(checkpoint=str(checkpoint), steps=3, device="cpu")
    bench, sent = Bench(None), list[Any]()  # type: ignore[arg-type]
    bench.__dict__["editor"] = LeditsEditor(options)

    class Pool:
        in_flight = 1

        def run(self, method: str, batches: Any, given: Any, *_: Any) -> Any:
            with monkeypatch.context() as other:
                other.setattr("diffex_dagster.editing.vocabulary.DESCRIBING", 2)
                sent.extend(getattr(bench, method)(*given(batch)) for batch in batches)
            return iter(())

    described: Any = RemoteEditor(LeditsEditor(options), Pool()).with_source_prompts(VOCABULARY)  # type: ignore[arg-type]
    own = described.fingerprint
    assert list(described.edit(images, [EditRequest(next(iter(images)), (Concept("a bob"),))])) == []
    (said,) = sent
    assert isinstance(said, Problem) and "would describe pictures otherwise" in said.sentence
    assert described.fingerprint == own != bench.editor.fingerprint == LeditsEditor(options).fingerprint


def test_workers_tell_each_other_what_pictures_show(checkpoint: Path, images: dict[str, Image.Image]) -> None:
    options = LeditsOptions(checkpoint=str(checkpoint), steps=3, mask="none", device="cpu", source_prompts=VOCABULARY)
    told: list[set[str]] = []

    class Pool:
        """Two benches in this process, which take turns."""

        in_flight = 2

        def run(self, method: str, batches: Any, given: Any, *_: Any) -> Any:
            benches = [Bench(None), Bench(None)]  # type: ignore[arg-type]
            for bench in benches:
                bench.__dict__["editor"] = LeditsEditor(options)
                bench.__dict__["files"] = SimpleNamespace(filed_all=list, get_all=lambda files: [])
            for i, batch in enumerate(batches):
                arguments = given(batch)
                told.append(set(arguments[3]))
                yield pickle.loads(pickle.dumps(getattr(benches[i % 2], method)(*arguments)))

    editor: Any = RemoteEditor(LeditsEditor(options.model_copy(update={"batch_size": 2})), Pool())  # type: ignore[arg-type]
    first = next(iter(images))
    asked = [EditRequest(first, (Concept(prompt),)) for prompt in ("a bob", "glasses", "freckles")]
    assert sum(len(batch) for batch in editor.edit(images, asked)) == 3
    assert told == [set(), {first}]
    assert set(editor.image_prompts.take()) == {first} and editor.image_prompts.take() == {}
    assert editor.describer == LeditsEditor(options).describer  # what they found is kept as this process's


def distance_of(a: Image.Image, b: Image.Image) -> int:
    """The largest difference of two pictures' values."""
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b)).max())


@pytest.mark.slow
@pytest.mark.long
def test_the_demo_editor_knows_what_its_drawings_show() -> None:
    """Of fourteen heads, five colours, six kinds of facial hair and four of skin: right about nearly all.

    Wrong about one drawing at most in each, and about few answers of all; a guess is right about a sixth of them.
    """
    editor = build_editor(load_study(ROOT / "studies" / "avatars"))
    assert isinstance(editor, LeditsEditor)
    factors = {"hair": "top", "hair colour": "hair_colour", "facial hair": "facial_hair", "skin": "skin"}
    engine, vocabulary = editor.engine(), {group: editor.options.vocabulary[group] for group in factors}
    right: dict[str, list[bool]] = {group: [] for group in factors}
    rng = random.Random(11)
    for _ in range(4):
        state = avatars.sample_state(rng)
        latents = engine.encode(picture_tensor(avatars.draw(state), engine.resolution)[None])[0]
        said = dict(source_prompt_of(engine, latents, vocabulary, rows=32)[0])
        for group, factor in factors.items():
            if avatars.visible(state, factor):
                right[group].append(said[group] in avatars.FACTORS[factor][state[factor]].phrases)
    assert all(each.count(False) <= 1 and len(each) > 1 for each in right.values()), right
    answers = [each for group in right.values() for each in group]
    assert sum(answers) / len(answers) >= 0.85, right
