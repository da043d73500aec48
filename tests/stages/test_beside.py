"""What is looked for in whose edits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffex_dagster.stages.beside import pairs_to_ask, strongest_to_claim
from diffex_dagster.stages.notes import beside_notes
from diffex_dagster.stages.report import classifier_report
from diffex_dagster.stages.search import run_search
from diffex_dagster.study import Study, load_study
from tests.support.toys import prepared, write_study

STILL = np.tile([-0.01, 0.01], 10)
D = {"eyewear": -0.3 + STILL, "beard": 0.5 + STILL, "hat": 0.2 + STILL, "hat/turban": STILL, "beard/grey": 0.02 + STILL}
CORPUS = [*D, "eyebrows/worried", "hair/red"]  # of which the search reached D, and no edit shows the eyebrows
SHOW = {"eyewear", "beard", "hat", "hat/turban", "beard/grey"}


def test_only_what_may_be_claimed_is_looked_into_the_strongest_first() -> None:
    assert strongest_to_claim(D, SHOW, {}) == ["beard", "eyewear", "hat", "beard/grey"]
    assert strongest_to_claim(D, {"eyewear", "hat/turban"}, {}) == ["eyewear"]  # of edits that fail nothing is claimed
    only = np.arange(20) < 10
    turned = {**D, "hat": np.where(only, 0.9 + STILL, -0.9)}
    assert strongest_to_claim(turned, SHOW, {"hat": only})[0] == "hat"  # over the images that it can change
    assert "hat" not in strongest_to_claim(turned, SHOW, {})


def test_every_feature_of_the_corpus_is_looked_for_that_may_be_half_of_the_effect() -> None:
    asked = pairs_to_ask(["eyewear", "beard"], CORPUS, D, SHOW, {})
    assert [seen for edited, seen in asked if edited == "eyewear"] == ["beard", "hat", "eyebrows/worried", "hair/red"]
    # A turban, which its edits show, does nothing; grey is of the beard's own group; both of the strongest are asked.
    assert [seen for edited, seen in asked if edited == "beard"] == ["eyewear", "eyebrows/worried", "hair/red"]
    # Where no edit shows the turban, its effect says nothing of what it would do.
    assert ("beard", "hat/turban") in pairs_to_ask(["beard"], CORPUS, D, SHOW - {"hat/turban"}, {})


def test_a_report_says_how_many_claims_nobody_looked_into(tmp_path: Path) -> None:
    knob = {"kind": "python", "factory": "tests.support.toys:KnobEditor", "options": {"batch": 128}}
    study = load_study(write_study(tmp_path, editors={"knob": knob}))
    work = prepared(study)
    run_search(work.subject("v1"))

    def said(limit: int, of: Study = study) -> tuple[list[str], int]:
        changed = of.changed(effects=study.effects.model_copy(update={"side_effects": limit}))
        report, _ = classifier_report(prepared(changed).subject("v1"), "diffex run")
        claims = sum(f.decision in ("raises", "lowers") for f in report.features)
        return [each for each in report.caveats if "were not looked at" in each], claims

    none, claims = said(8)
    assert none == [] and claims > 2
    (caveat,), _ = said(1)
    assert caveat.startswith(f"The edits of {claims - 1} of {claims} claims were not looked at for what else they")
    assert caveat.endswith("effects.side_effects (1) says how many of the strongest features are looked at.")
    (caveat,), _ = said(0)
    assert caveat.startswith(f"The edits of {claims} of {claims} claims were")
    assert "its effect" in beside_notes(study, ["red", "blue"], ["red"])[0]
    none, _ = said(0, study.changed(judge=load_study(write_study(tmp_path / "b", judge={"kind": "none"})).judge))
    assert none == []  # where nobody judges, that is said at the top
