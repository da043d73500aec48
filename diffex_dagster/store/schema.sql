-- The one row of `store_version` says which tables and columns the database has; see `duck.SCHEMA`. Columns that a row of
-- a report has beyond those here are added from its definition (`reports.COLUMNS`): a new one needs no line in this file.
CREATE TABLE IF NOT EXISTS store_version (
    version INTEGER NOT NULL,           -- raised when earlier programs must not write to the database any more
    schema VARCHAR NOT NULL             -- hash of this file
);
-- The one row of `store_identity` says which database this is: a copy keeps it, a new database has another.
CREATE TABLE IF NOT EXISTS store_identity (id VARCHAR NOT NULL);
INSERT INTO store_identity SELECT uuid()::VARCHAR WHERE NOT EXISTS (SELECT 1 FROM store_identity);
-- One row of `images` is a sample image, prepared (square, RGB) and kept as a content-addressed file.
CREATE TABLE IF NOT EXISTS images (
    image VARCHAR PRIMARY KEY,          -- hash of the prepared pixels
    name VARCHAR NOT NULL,              -- file name it was read from
    file VARCHAR NOT NULL,              -- content-addressed file, relative to the results folder
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    created TIMESTAMPTZ DEFAULT now()
);
-- One row of `answers` is one answer of a vision-language model, kept so that no request is paid for twice.
CREATE TABLE IF NOT EXISTS answers (
    request VARCHAR PRIMARY KEY,        -- hash of images, prompt, model and parameters
    answer VARCHAR NOT NULL,
    usage VARCHAR NOT NULL,             -- JSON: tokens, price, calls
    created TIMESTAMPTZ DEFAULT now()
);
-- One row of `features` is a node of one version of a study's corpus.
CREATE TABLE IF NOT EXISTS features (
    study VARCHAR, corpus_version VARCHAR, feature VARCHAR,
    position INTEGER NOT NULL,          -- order in the tree, parents before children
    level INTEGER NOT NULL,
    name VARCHAR NOT NULL, prompt VARCHAR NOT NULL, direction VARCHAR NOT NULL,
    editable BOOLEAN NOT NULL, support INTEGER, region VARCHAR, source VARCHAR,
    exclusive BOOLEAN,                  -- whether a picture shows at most one of its children; NULL where nobody said
    PRIMARY KEY (study, corpus_version, feature)
);
ALTER TABLE features ADD COLUMN IF NOT EXISTS exclusive BOOLEAN;
-- One row of `drops` is something that cleaning or merging left out of one version of a corpus.
CREATE TABLE IF NOT EXISTS drops (
    study VARCHAR, corpus_version VARCHAR, name VARCHAR, reason VARCHAR,
    PRIMARY KEY (study, corpus_version, name, reason)
);
-- One row of `completeness` is how much of a classifier's outputs a version of a study's corpus explains: a round.
CREATE TABLE IF NOT EXISTS completeness (
    study VARCHAR, classifier_name VARCHAR,
    classifier VARCHAR,                 -- its weights, target, reported images and judge
    editor VARCHAR, corpus_version VARCHAR,
    round INTEGER NOT NULL,             -- counted for each of the four before: only those compare
    features INTEGER NOT NULL, images INTEGER NOT NULL,
    score DOUBLE, low DOUBLE, high DOUBLE, -- NULL where it is not known
    created TIMESTAMPTZ DEFAULT now(),
    PRIMARY KEY (study, classifier_name, classifier, editor, corpus_version)
);
-- One row of `round_suggestions` is an attribute that a model named as the next one to try, after a round.
CREATE TABLE IF NOT EXISTS round_suggestions (
    study VARCHAR, classifier_name VARCHAR,
    classifier VARCHAR, editor VARCHAR, corpus_version VARCHAR, -- the round, as of `completeness`
    model VARCHAR,                      -- that was asked
    suggestion VARCHAR,                 -- the id it would have
    position INTEGER NOT NULL,
    kind VARCHAR NOT NULL, under VARCHAR NOT NULL, name VARCHAR NOT NULL,
    entries VARCHAR NOT NULL,           -- JSON: what would stand under `add:` in the corpus file
    why VARCHAR NOT NULL,               -- in the model's words
    left_out VARCHAR NOT NULL,          -- why it cannot be tried; empty where it can
    created TIMESTAMPTZ DEFAULT now(),
    PRIMARY KEY (study, classifier_name, classifier, editor, corpus_version, model, suggestion)
);
-- The same from before it was kept after which weights, target, images, judge and editor; nothing is added to it.
CREATE TABLE IF NOT EXISTS suggestions (
    study VARCHAR, classifier_name VARCHAR, corpus_version VARCHAR, suggestion VARCHAR, -- the id it would have
    position INTEGER NOT NULL,
    kind VARCHAR NOT NULL, under VARCHAR NOT NULL, name VARCHAR NOT NULL,
    entries VARCHAR NOT NULL,           -- JSON: what would stand under `add:` in the corpus file
    why VARCHAR NOT NULL,               -- in the model's words
    left_out VARCHAR NOT NULL,          -- why it cannot be tried; empty where it can
    model VARCHAR NOT NULL,
    created TIMESTAMPTZ DEFAULT now(),
    PRIMARY KEY (study, classifier_name, corpus_version, suggestion)
);
-- One row of `edits` is an edited image; no concepts means the null edit.
CREATE TABLE IF NOT EXISTS edits (
    edit VARCHAR PRIMARY KEY,           -- hash of image, concepts, editor and seed
    image VARCHAR NOT NULL,
    concepts VARCHAR NOT NULL,          -- JSON list of [prompt, direction], and the setting where it has its own
    editor VARCHAR NOT NULL,            -- fingerprint
    seed INTEGER NOT NULL,
    file VARCHAR NOT NULL,
    created TIMESTAMPTZ DEFAULT now()
);
-- One row of `source_prompts` is the words that a study's pictures are described in, frozen at its first run.
CREATE TABLE IF NOT EXISTS source_prompts (
    study VARCHAR, editor VARCHAR,      -- fingerprint of the editor without the words
    words VARCHAR NOT NULL,             -- JSON: group -> words of which a picture shows one
    used BOOLEAN,                       -- whether edits are made with them; NULL while that is being found out
    why VARCHAR NOT NULL,
    left_out VARCHAR NOT NULL,          -- JSON: group of the corpus -> why its words are not among them
    corpus_version VARCHAR NOT NULL,    -- that they come from
    created TIMESTAMPTZ DEFAULT now(),
    PRIMARY KEY (study, editor)
);
-- One row of `descriptions` is what one image shows, in words; its edits leave alone what is named.
CREATE TABLE IF NOT EXISTS descriptions (
    image VARCHAR, describer VARCHAR,   -- hash of model, words and options: all that decides what is said
    words VARCHAR NOT NULL,             -- JSON list of [group, words], in the order in which they are said
    cut BOOLEAN NOT NULL,               -- whether the text encoder had no room for all of it
    created TIMESTAMPTZ DEFAULT now(),
    PRIMARY KEY (image, describer)
);
-- One row of `calibrations` is what a study edits one prompt with.
CREATE TABLE IF NOT EXISTS calibrations (
    study VARCHAR, editor VARCHAR,      -- fingerprint
    prompt VARCHAR, direction VARCHAR,
    setting VARCHAR NOT NULL,           -- as in `edits`; empty for the editor's own options
    success DOUBLE, harm DOUBLE,        -- expected of its edits; NULL where nothing was tried
    tries INTEGER NOT NULL,             -- edits of this prompt with this setting
    why VARCHAR NOT NULL,
    created TIMESTAMPTZ DEFAULT now(),
    method INTEGER,                     -- number of the rule that chose it; NULL before it had one
    PRIMARY KEY (study, editor, prompt, direction)
);
ALTER TABLE calibrations ADD COLUMN IF NOT EXISTS method INTEGER;
-- One row of `tries` is one edit that options were chosen by.
CREATE TABLE IF NOT EXISTS tries (
    study VARCHAR, editor VARCHAR, prompt VARCHAR, direction VARCHAR,
    "group" VARCHAR NOT NULL, region VARCHAR NOT NULL, -- of the prompt, "" where it is not known
    image VARCHAR, setting VARCHAR,
    took BOOLEAN NOT NULL,              -- shows its attribute, by the rule of `method`
    harm DOUBLE NOT NULL,               -- how much it changed, 0 to 1
    final BOOLEAN NOT NULL,             -- its setting is one of the last few, which every prompt is tried with
    created TIMESTAMPTZ DEFAULT now(),
    method INTEGER,                     -- number of the rule that judged and measured it; NULL before it had one
    PRIMARY KEY (study, editor, prompt, direction, image, setting)
);
ALTER TABLE tries ADD COLUMN IF NOT EXISTS method INTEGER;
-- One row of `masks` is where an edit was allowed to change its picture, for editors that know.
CREATE TABLE IF NOT EXISTS masks (
    edit VARCHAR PRIMARY KEY,
    width INTEGER NOT NULL, height INTEGER NOT NULL, -- of the mask, stretched over the picture
    mask BLOB NOT NULL                  -- one bit a place, rows of whole bytes, 1 where a change was allowed
);
-- One row of `changes` is what an edit did to its picture, against the null edit.
CREATE TABLE IF NOT EXISTS changes (
    edit VARCHAR PRIMARY KEY,
    strength DOUBLE NOT NULL,           -- mean absolute change in the most changed window, 0 to 1
    ssim DOUBLE NOT NULL,               -- structural similarity, 1 where nothing changed
    inside DOUBLE,                      -- share of the change inside the mask; NULL without a mask or a change
    area DOUBLE,                        -- share of the picture that the mask covers
    lpips DOUBLE,                       -- perceptual distance, 0 where nothing changed
    lpips_net VARCHAR                   -- its backbone; NULL where it was not measured
);
-- One row of `scores` is a classifier's outputs on one edit or sample image.
CREATE TABLE IF NOT EXISTS scores (
    subject VARCHAR,                    -- an edit or an image
    classifier VARCHAR,                 -- fingerprint
    outputs DOUBLE[] NOT NULL,          -- logits, in the order of the classifier's labels
    created TIMESTAMPTZ DEFAULT now(),
    PRIMARY KEY (subject, classifier)
);
-- One row of `evidence` is how strongly one edit shows one concept, as a judge says.
CREATE TABLE IF NOT EXISTS evidence (
    subject VARCHAR,                    -- an edit
    concept VARCHAR,                    -- the prompt that is looked for
    probe VARCHAR,                      -- fingerprint
    value DOUBLE NOT NULL,              -- comparable between edits of one image, for one concept and judge
    created TIMESTAMPTZ DEFAULT now(),
    PRIMARY KEY (subject, concept, probe)
);
-- One row of `embeddings` is where one edit lies among pictures, as a judge's model sees them.
CREATE TABLE IF NOT EXISTS embeddings (
    subject VARCHAR,                    -- an edit
    probe VARCHAR,                      -- fingerprint of the judge
    vector DOUBLE[] NOT NULL,
    created TIMESTAMPTZ DEFAULT now(),
    PRIMARY KEY (subject, probe)
);
-- One row of `looks` is the attribution map (Grad-CAM) of a classifier on one edit.
CREATE TABLE IF NOT EXISTS looks (
    subject VARCHAR,                    -- an edit
    classifier VARCHAR,                 -- fingerprint, with its target where that is its own
    "rows" INTEGER NOT NULL,            -- height of the map
    crop DOUBLE NOT NULL,               -- share of the picture's side that the map covers, around the centre
    map DOUBLE[] NOT NULL,              -- row by row, in the resolution of the layer
    created TIMESTAMPTZ DEFAULT now(),
    PRIMARY KEY (subject, classifier)
);
-- One row of `effects` is the paired difference of one feature on one image, as a report showed it: score_edit less
-- score_null; in reports of earlier versions less score_placebo, where that is known, and so are their `rankings`.
CREATE TABLE IF NOT EXISTS effects (
    study VARCHAR, classifier VARCHAR, editor VARCHAR, corpus_version VARCHAR, run VARCHAR,
    feature VARCHAR, image VARCHAR,
    score_null DOUBLE NOT NULL, score_edit DOUBLE NOT NULL, effect DOUBLE NOT NULL, flipped BOOLEAN NOT NULL,
    score_placebo DOUBLE,               -- mean score of the control edits, which claims are held against
    counted BOOLEAN,                    -- whether the feature's effect is over this image too
    PRIMARY KEY (study, classifier, editor, corpus_version, run, feature, image)
);
ALTER TABLE effects ADD COLUMN IF NOT EXISTS score_placebo DOUBLE;
ALTER TABLE effects ADD COLUMN IF NOT EXISTS counted BOOLEAN;
-- One row of `rankings` is one line of a report's ranked list.
CREATE TABLE IF NOT EXISTS rankings (
    study VARCHAR, classifier VARCHAR, classifier_name VARCHAR, editor VARCHAR, corpus_version VARCHAR, run VARCHAR,
    rank INTEGER, feature VARCHAR NOT NULL, name VARCHAR NOT NULL, prompt VARCHAR NOT NULL, direction VARCHAR NOT NULL,
    "group" VARCHAR NOT NULL, level INTEGER NOT NULL,
    effect DOUBLE, ci_low DOUBLE, ci_high DOUBLE, magnitude DOUBLE, sign_agreement DOUBLE, flip_rate DOUBLE,
    images INTEGER, decision VARCHAR, p_value DOUBLE, edit_strength DOUBLE, edit_success DOUBLE,
    created TIMESTAMPTZ DEFAULT now(),
    ssim DOUBLE, lpips DOUBLE, inside_mask DOUBLE, mask_area DOUBLE, -- means of `changes` over the images
    among VARCHAR,                      -- images that the effect is over: without it, with it, all
    prevalence DOUBLE, prevalence_low DOUBLE, prevalence_high DOUBLE, -- share of images that show it already
    effect_all DOUBLE,                  -- over all images, where the effect is not
    effect_shown DOUBLE,                -- over those whose edit shows the attribute, where not all do
    other_way DOUBLE, other_way_success DOUBLE, other_way_images INTEGER, -- edited the other way where it is so already
    cace DOUBLE, cace_low DOUBLE, cace_high DOUBLE, -- do(1) - do(0), from both
    confounded_with VARCHAR,            -- feature that accounts, or may, for the effect; its numbers are in `side_effects`
    becomes INTEGER, leaves INTEGER,    -- images that become the explained class, and that stop being it
    PRIMARY KEY (study, classifier, editor, corpus_version, run, rank)
);
-- One row of `side_effects` is what the edits of one feature do to another, as a report showed it.
CREATE TABLE IF NOT EXISTS side_effects (
    study VARCHAR, classifier VARCHAR, editor VARCHAR, corpus_version VARCHAR, run VARCHAR,
    edited VARCHAR, looked_for VARCHAR,
    leak DOUBLE NOT NULL,               -- share of a whole edit of `looked_for` that it contains, -1 to 1
    "real" BOOLEAN NOT NULL,            -- the leak can be told from none
    direct DOUBLE, direct_low DOUBLE, direct_high DOUBLE, -- what is left of the effect of `edited`; NaN: not told apart
    confounded BOOLEAN NOT NULL,        -- the effect of `edited` is claimed and does not stand on its own
    PRIMARY KEY (study, classifier, editor, corpus_version, run, edited, looked_for)
);
-- One row of `interactions` is a pair of features that was edited together, as a report showed it.
CREATE TABLE IF NOT EXISTS interactions (
    study VARCHAR, classifier VARCHAR, editor VARCHAR, corpus_version VARCHAR, run VARCHAR,
    one VARCHAR, other VARCHAR,         -- feature ids
    effect DOUBLE, ci_low DOUBLE, ci_high DOUBLE, -- mean of d_AB - d_A - d_B, less that of two control prompts
    alone DOUBLE, together DOUBLE,      -- mean d_A + mean d_B, and mean d_AB
    images INTEGER, decision VARCHAR, p_value DOUBLE, reason VARCHAR,
    success DOUBLE,                     -- share of the joint edits that show both
    placebo BOOLEAN,                    -- two control prompts edited together were taken off
    curve DOUBLE,                       -- what log-odds that add up would give
    beyond DOUBLE, beyond_low DOUBLE, beyond_high DOUBLE, -- what is left without it
    PRIMARY KEY (study, classifier, editor, corpus_version, run, one, other)
);
-- One row of `samples` is a sample image of a study, in order.
CREATE TABLE IF NOT EXISTS samples (
    study VARCHAR, position INTEGER, image VARCHAR NOT NULL, name VARCHAR NOT NULL,
    PRIMARY KEY (study, position)
);
-- One row of `image_columns` is what the table of a study's images says of one, in a column that the study names.
CREATE TABLE IF NOT EXISTS image_columns (
    study VARCHAR, image VARCHAR, "column" VARCHAR, value VARCHAR,
    PRIMARY KEY (study, image, "column")
);
-- One row of `subgroups` is the effect of one feature among some of the images, as a report showed it.
CREATE TABLE IF NOT EXISTS subgroups (
    study VARCHAR, classifier VARCHAR, editor VARCHAR, corpus_version VARCHAR, run VARCHAR,
    feature VARCHAR, "column" VARCHAR, value VARCHAR, -- what the images have in common
    effect DOUBLE, ci_low DOUBLE, ci_high DOUBLE, images INTEGER, decision VARCHAR, p_value DOUBLE,
    PRIMARY KEY (study, classifier, editor, corpus_version, run, feature, "column", value)
);
-- One row of `currents` says which version of something a study uses now (its proposal, its corpus).
CREATE TABLE IF NOT EXISTS currents (study VARCHAR, what VARCHAR, version VARCHAR NOT NULL, PRIMARY KEY (study, what));
-- One row of `gates` is a level-1 group, whether the beam kept it for one classifier, and why.
CREATE TABLE IF NOT EXISTS gates (
    study VARCHAR, classifier VARCHAR, editor VARCHAR, corpus_version VARCHAR, feature VARCHAR,
    kept BOOLEAN NOT NULL, reason VARCHAR NOT NULL, magnitude DOUBLE,
    PRIMARY KEY (study, classifier, editor, corpus_version, feature)
);
-- One row of `reports` is a report that was made. A later row is a later report, whatever the clock says; one that says
-- the same as an earlier one has no rows of its own in `rankings`, `effects` and `side_effects`.
CREATE TABLE IF NOT EXISTS reports (
    written BIGINT PRIMARY KEY,         -- 1, 2, 3, ...
    study VARCHAR NOT NULL, classifier_name VARCHAR NOT NULL,
    classifier VARCHAR NOT NULL, editor VARCHAR NOT NULL, corpus_version VARCHAR NOT NULL,
    run VARCHAR NOT NULL,               -- that made it
    rows_of VARCHAR NOT NULL,           -- the run whose rows it shows
    content VARCHAR NOT NULL,           -- hash of these rows
    created TIMESTAMPTZ DEFAULT now()
);
-- One row of `owners` is the study file that a study's rows come from, relative to the results folder.
CREATE TABLE IF NOT EXISTS owners (study VARCHAR PRIMARY KEY, file VARCHAR NOT NULL);
-- One row of `stamps` is a picture file as it was when its content was last found right.
CREATE TABLE IF NOT EXISTS stamps (
    file VARCHAR PRIMARY KEY,           -- relative to the results folder
    bytes BIGINT NOT NULL,
    modified BIGINT NOT NULL            -- nanoseconds since 1970
);
