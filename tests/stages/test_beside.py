"""What is looked for in whose edits."""

from __future__ import annotations

import numpy as np

from diffex_dagster.stages.beside import pairs_to_ask, strongest_to_claim

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
