"""Pre-training on a mixture of small synthetic sets, with tiny random models."""

import gzip
import json
import shutil
import sys
from collections import Counter
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import DAMAGE_OF_TENSORS, change_checkpoint
from factorial import half_slow
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tiny import encoder_checkpoint, reference_checkpoint, sentence_transformer

from skgliclass import GLiClassClassifier
from skgliclass.__main__ import main
from skgliclass.datasets import Example, write_examples
from skgliclass.engine.engine import Engine
from skgliclass.loading.loader import load_model
from skgliclass.loading.sources import EMBEDDED_HUB_ID

pytest.importorskip("pydantic")

from skgliclass.pretraining.augment import Augmenter
from skgliclass.pretraining.chunks import Chunks
from skgliclass.pretraining.config import (
    AugmentationConfig,
    KindConfig,
    MixtureConfig,
    ModelConfig,
    config_from_table,
    read_config,
)
from skgliclass.pretraining.generated import generated_sets
from skgliclass.pretraining.initial import initial_model
from skgliclass.pretraining.mixture import LabelledSet, hypothesis_rows, make_mixture, read_sets
from skgliclass.pretraining.neighbours import Neighbours
from skgliclass.pretraining.run import _make_run, finish, pretrain
from skgliclass.pretraining.wordings import SetWordings, normalized, read_wordings

CONFIGURATIONS = Path(__file__).parents[2] / "pretraining"

WORDINGS = {
    "families": {
        "mood": {"templates": ["It is {label}."], "tasks": ["Which mood?"]},
        "subject": {"templates": ["About {label}."], "tasks": ["Which subject?"]},
    },
    "sets": {
        "moods": {
            "family": "mood",
            "labels": {"joy": ["gladness", "happy"], "anger": ["rage", "fury"], "calm": ["peace"]},
        },
        "moods.two": {"family": "mood", "labels": {"good": ["joy"], "bad": ["anger"]}},
        "subjects": {"family": "subject", "labels": {"sport": ["games"], "music": ["songs"]}},
        "words": {"family": "subject"},
    },
    "groups": {
        "moods.two": {"from": "moods", "labels": {"good": ["joy", "calm"], "bad": ["anger"]}}
    },
}
MOODS = {"joy": "very positive day", "anger": "very negative fox", "calm": "lazy dog"}
SUBJECTS = {"sport": "fox jumps over", "music": "café music today", "travel": "see the world"}


def toy_sets(n=40):
    moods = [
        Example(f"{MOODS[label]} {i}", tuple(MOODS), (label,))
        for i in range(n)
        for label in [list(MOODS)[i % 3]]
    ]
    subjects = [
        Example(f"{SUBJECTS[a]} {SUBJECTS[b]} {i}", tuple(SUBJECTS), tuple(dict.fromkeys((a, b))))
        for i in range(n)
        for a, b in [(list(SUBJECTS)[i % 3], list(SUBJECTS)[i // 3 % 3])]
    ]
    words = [Example(f"word {i}", (f"noun {i}", f"noun {i + 1}"), (f"noun {i}",)) for i in range(n)]
    return {"moods": moods, "subjects": subjects, "words": words}


@pytest.fixture(scope="module")
def wordings(tmp_path_factory):
    path = tmp_path_factory.mktemp("wordings") / "wordings.json"
    path.write_text(json.dumps(WORDINGS))
    return path


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("backbone"), n_layers=1))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for part, n in (("pretrain", 40), ("eval", 6)):
        (folder / part).mkdir()
        for name, rows in toy_sets(n).items():
            write_examples(folder / part / f"{name}.jsonl.gz", rows)
    return folder


@pytest.fixture(scope="module")
def config(backbone, wordings):
    return config_from_table(
        {
            "model": {"backbone": backbone, "max_length": 64},
            "training": {
                "n_steps": 12,
                "batch_size": 4,
                "chunk_steps": 5,
                "learning_rate": 1e-3,
                "head_learning_rate": 1e-3,
                "distillation": 0.2,
            },
            "mixture": {"held_out_rows": 4},
            "augmentation": {
                "wordings": str(wordings),
                "wording_probability": 0.5,
                "template_probability": 0.5,
                "task_probability": 0.5,
                "example_probability": 0.5,
                "foreign_negative_probability": 0.5,
                "hard_negative_probability": 0.5,
                "no_true_probability": 0.2,
            },
            "record": {"log_steps": 3, "score_steps": 6, "checkpoint_steps": 4},
        }
    )


def with_fields(config, table, **values):
    return replace(config, **{table: replace(getattr(config, table), **values)})


def mixture_of(config, sets=None):
    return make_mixture(
        sets or toy_sets(), config.mixture, read_wordings(config.augmentation.wordings), seed=0
    )


# The mixture.


def test_sets_are_drawn_in_proportion_to_their_tempered_and_capped_size():
    rows = toy_sets(900)["words"]
    sets = {"small": rows[:9], "middle": rows[100:200], "large": rows[:900]}
    options = MixtureConfig(temperature=0.5, cap=400, weights={"middle": 2.0}, held_out_rows=0)
    mixture = make_mixture(sets, options, read_wordings(), seed=0)
    names = [own.name for own in mixture.sets]
    expected = {"small": 3.0, "middle": 20.0, "large": 20.0}
    drawn = Counter(names[i] for i, _ in mixture.draw(20_000, np.random.default_rng(0)))
    for name, share in expected.items():
        assert drawn[name] / 20_000 == pytest.approx(share / 43, abs=0.01)


def test_a_weight_of_zero_leaves_a_set_out(config):
    mixture = mixture_of(with_fields(config, "mixture", weights={"words": 0.0}))
    assert {own.name for own in mixture.sets} == {"moods", "moods.two", "subjects"}


def shares_of(**options):
    rows = toy_sets(900)["words"]
    sets = {"bot_a": rows[:100], "bot_b": rows[100:500], "news": rows[:9], "jokes": rows[:900]}
    mixture = make_mixture(sets, MixtureConfig(held_out_rows=0, **options), read_wordings(), seed=0)
    names = [own.name for own in mixture.sets]
    return dict(zip(names, mixture.probabilities, strict=True))


def test_kinds_have_their_shares_and_sets_theirs_within_a_kind():
    kinds = {
        "intents": KindConfig(share=0.6, sets=("bot_*",)),
        "topics": KindConfig(share=0.2, sets=("news", "*_b")),
        "others": KindConfig(share=0.4, sets=("*",)),
    }
    # bot_b is of the first kind that names it. Shares need not add up to one.
    expected = {"bot_a": 0.5 / 3, "bot_b": 1 / 3, "news": 0.2 / 1.2, "jokes": 1 / 3}
    assert shares_of(kinds=kinds) == pytest.approx(expected)
    weights = {"bot_a": 2.0, "news": 5.0}
    expected = {"bot_a": 0.25, "bot_b": 0.25, "news": 0.2 / 1.2, "jokes": 1 / 3}
    assert shares_of(kinds=kinds, weights=weights) == pytest.approx(expected)


def test_a_kind_of_share_zero_and_a_set_of_weight_zero_are_left_out():
    kinds = {"bots": KindConfig(0.0, ("bot_*",)), "topics": KindConfig(1.0, ("news",))}
    assert shares_of(kinds=kinds, weights={"jokes": 0.0}) == {"news": 1.0}


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"a": (1.0, ["bot_*"]), "b": (1.0, ["news"])}, r"'jokes' belongs to none .*\(a, b\)"),
        ({"a": (1.0, ["*", "botany_*"])}, r"kinds\.a\.sets names 'botany_\*', which matches none"),
        ({"a": (0.0, ["*"])}, r"No rows are left .* mixture\.kinds"),
    ],
)
def test_wrong_kinds_are_named(kinds, message):
    with pytest.raises(ValueError, match=message):
        shares_of(kinds={name: KindConfig(*values) for name, values in kinds.items()})


def test_texts_that_are_held_out_of_one_set_are_in_no_other():
    rows = toy_sets()["moods"]
    shouted = [replace(row, text=row.text.upper()) for row in rows]
    mixture = make_mixture({"a": rows, "b": shouted}, MixtureConfig(), read_wordings(), seed=0)
    training = {normalized(row.text) for own in mixture.sets for row in own.rows}
    held_out = {normalized(row.text) for own in mixture.held_out for row in own.rows}
    assert len(held_out) >= 4
    assert not training & held_out
    assert len(training | held_out) == len(rows)


def test_groups_make_a_set_of_rows_whose_labels_agree(config):
    both = Example("both", ("joy", "anger", "calm"), ("joy", "anger"))
    alike = Example("alike", ("joy", "anger", "calm"), ("joy", "calm"))
    mixture = mixture_of(config, {"moods": [both, alike]})
    (derived,) = [own for own in mixture.sets if own.name == "moods.two"]
    assert [(row.text, row.all_labels, row.true_labels) for row in derived.rows] == [
        ("alike", ("good", "bad"), ("good",))
    ]


def test_hypotheses_become_labels_of_their_premise():
    def row(hypothesis, verdict):
        labels = ("entailment", "neutral", "contradiction")
        return Example(f"Premise: A man eats. Hypothesis: {hypothesis}", labels, (verdict,))

    rows = [row("He eats.", "entailment"), row("He sleeps.", "contradiction")]
    (found,) = hypothesis_rows("pairs", [*rows, row("He is hungry.", "neutral")])
    assert found.text == "A man eats."
    assert found.all_labels == ("He eats.", "He sleeps.")
    assert found.true_labels == ("He eats.",)
    with pytest.raises(ValueError, match=r"'pairs', but row 0 is no 'Premise"):
        hypothesis_rows("pairs", toy_sets()["moods"])


# Augmentation.


def all_meanings(wordings, name, label):
    own = wordings.of(name)
    texts = [label, *own.labels.get(label, ())]
    filled = [t.replace("{label}", text) for t in ["{label}", *own.templates] for text in texts]
    return {normalized(text) for text in filled}


@half_slow(together=[1, 4], packaged=[False, True])
def test_what_is_true_is_never_shown_as_false_whatever_it_is_called(config, packaged, together):
    sets = toy_sets()
    if packaged:
        config = with_fields(config, "augmentation", wordings="")
        emotions = list(read_wordings().of("go_emotions").labels)
        goods = ("advantage", "disadvantage")
        sets = {
            "go_emotions": [
                Example(f"{i}", tuple(emotions), (label, emotions[(7 * i) % 28]))
                if emotions[(7 * i) % 28] != label
                else Example(f"{i}", tuple(emotions), (label,))
                for i, label in enumerate(emotions)
            ],
            "product_pros_cons": [Example(f"p{i}", goods, (goods[i % 2],)) for i in range(20)],
            "ni_trivia_topics": [Example(f"t{i}", ("music", "film"), ("film",)) for i in range(9)],
        }
    mixture = mixture_of(config, sets)
    wordings = read_wordings(config.augmentation.wordings)
    augmenter = Augmenter(mixture.sets, config.augmentation, multi_label_weight=2.0)
    rng = np.random.default_rng(0)
    n_true = 0
    drawn = mixture.draw(3000, rng, together)
    for start in range(0, len(drawn), together):
        (i,) = {i for i, _ in drawn[start : start + together]}
        own = mixture.sets[i]
        rows = [own.rows[j] for _, j in drawn[start : start + together]]
        for row, shown in zip(rows, augmenter.augment_together(own, rows, rng), strict=True):
            n_true += check_truth(own, row, shown, wordings)
    assert n_true > 2000


def check_truth(own, row, shown, wordings):
    assert len(set(shown.labels)) == len(shown.labels) == len(shown.targets) > 0
    true = set().union(*(all_meanings(wordings, own.name, x) for x in row.true_labels))
    for label, target in zip(shown.labels, shown.targets, strict=True):
        assert (normalized(label) in true) == (target == 1.0), (row, shown)
    if not shown.multi_label:
        assert sum(shown.targets) == 1
    assert shown.weight == (2.0 if shown.multi_label else 1.0)
    return sum(shown.targets)


def test_rows_that_are_drawn_together_share_words_and_labels(config):
    labels = tuple(f"label {i}" for i in range(40))
    wordings = {"sets": {"moods": {"labels": {x: [f"{x} {k}" for k in "abcdef"] for x in labels}}}}
    rows = [Example(f"text {i}", labels, (labels[i],)) for i in range(8)]
    own = LabelledSet("moods", rows, SetWordings(labels=wordings["sets"]["moods"]["labels"]))
    augmentation = replace(
        config.augmentation,
        wording_probability=1.0,
        no_true_probability=0.0,
        sigmoid_probability=0.0,
        max_labels=8,
    )
    augmenter = Augmenter([own], augmentation)
    for seed in range(20):
        drawn = augmenter.augment_together(own, rows, np.random.default_rng(seed))
        shown = {label for row in drawn for label in row.labels}
        # One wording for each label, the eight true ones and at most seven or eight more.
        assert len({" ".join(label.split()[:2]) for label in shown}) == len(shown) <= 16
        assert [row.text for row in drawn] == [row.text for row in rows]


def test_two_labels_become_one_that_holds_where_one_of_them_does(config):
    labels = ("film", "music", "the history of art in the north", "sport")
    rows = [Example(label, labels, (label,)) for label in labels]
    own = LabelledSet("subjects", rows, SetWordings())
    plain = {f.name: 0.0 for f in fields(AugmentationConfig) if f.name.endswith("probability")}
    wanted = {"full_set_probability": 1.0, "merge_probability": 1.0}
    augmenter = Augmenter([own], replace(config.augmentation, **{**plain, **wanted}))
    rng = np.random.default_rng(0)
    joints = set()
    for row in rows * 20:
        (shown,) = augmenter.augment_together(own, [row], rng)
        (merged,) = set(shown.labels) - set(labels)
        parts = [label for label in labels if label in merged]
        joints.add(
            merged.removeprefix(parts[0])
            .removeprefix(parts[1])
            .removesuffix(parts[0])
            .removesuffix(parts[1])
        )
        assert len(shown.labels) == 3
        assert labels[2] in shown.labels
        # With one true label there is still one.
        assert sum(shown.targets) == 1
        true = shown.labels[shown.targets.index(1.0)]
        assert row.text == true or (true == merged and row.text in parts)
    assert joints == {"/", " & ", " and ", " or ", ", "}


# Rows that are written by rules.


@pytest.mark.parametrize("name", ["opinions", "ratings", "market"])
def test_generated_rows_repeat_and_have_every_label(name):
    (rows,) = generated_sets([name], 300, seed=0).values()
    again = generated_sets([name], 300, seed=0)[f"generated.{name}"]
    assert rows == again != generated_sets([name], 300, seed=1)[f"generated.{name}"]
    counts = Counter(row.true_labels[0] for row in rows)
    assert set(counts) == set(rows[0].all_labels)
    assert min(counts.values()) > 0.6 * 300 / len(counts)
    assert len({row.text for row in rows}) > 200
    assert all("{" not in row.text and row.text.strip() == row.text for row in rows)


def test_generated_opinions_can_be_told_apart_by_their_words():
    rows = generated_sets(["opinions"], 1500, seed=0)["generated.opinions"]
    texts, y = [row.text for row in rows], [row.true_labels[0] for row in rows]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    score = model.fit(texts[:1000], y[:1000]).score(texts[1000:], y[1000:])
    # "Not good" and "but" keep words alone from telling all.
    assert 0.8 < score < 0.99


def test_an_unknown_generated_set_is_named(config):
    config = with_fields(config, "mixture", generated=("opinions", "weather"), generated_rows=20)
    with pytest.raises(ValueError, match=r"mixture.generated names 'weather'; choose from"):
        mixture_of(config)


def test_foreign_labels_come_from_sets_of_families_that_are_not_near(config):
    config = with_fields(config, "augmentation", foreign_negative_probability=1.0)
    mixture = mixture_of(config)
    augmenter = Augmenter(mixture.sets, config.augmentation)
    rng = np.random.default_rng(0)
    seen = set()
    moods = next(own for own in mixture.sets if own.name == "moods.two")
    for _ in range(200):
        (drawn,) = augmenter.augment_together(moods, moods.rows[:1], rng)
        seen.update(drawn.labels)
    # Never the moods that "good" and "bad" are made of; nor labels that differ from row to row.
    assert seen & set(SUBJECTS) == set(SUBJECTS)
    assert not seen & {"calm", *(f"noun {i}" for i in range(41))}


def test_label_sets_vary_in_size_and_content(config):
    rows = [Example("text", tuple(f"label {i}" for i in range(40)), ("label 0",))] * 3
    mixture = mixture_of(config, {"moods": rows})
    own = next(own for own in mixture.sets if own.name == "moods")
    augmenter = Augmenter(mixture.sets, config.augmentation)
    rng = np.random.default_rng(0)
    drawn = [augmenter.augment_together(own, rows[:1], rng)[0] for _ in range(300)]
    sizes = Counter(len(row.labels) for row in drawn)
    assert max(sizes) <= config.augmentation.max_labels + 3
    assert {2, 3, 4, 24} <= set(sizes)
    assert len({frozenset(row.labels) for row in drawn}) > 200
    # The place of a label does not tell whether it holds.
    pairs = [row.targets for row in drawn if len(row.labels) == 2 and sum(row.targets) == 1]
    assert 0.25 < np.mean([targets[0] for targets in pairs]) < 0.75


def test_hard_negatives_are_the_labels_nearest_by_the_embeddings(config, backbone):
    mixture = mixture_of(config)
    own = next(own for own in mixture.sets if own.name == "moods")
    engine = Engine(load_model(backbone))
    vectors = engine.label_vectors(own.labels)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    joy = own.labels.index("joy")
    expected = [own.labels[i] for i in np.argsort(-(vectors @ vectors[joy])) if i != joy]
    assert Neighbours(engine, 10, seed=0).labels(own, ["joy"]) == expected


def test_examples_never_show_the_rows_own_text(config, backbone):
    rows = toy_sets()["moods"]
    rows += [replace(row, text=f" {row.text.upper()}") for row in rows]
    config = with_fields(config, "augmentation", example_probability=1.0, pool_size=1000)
    mixture = mixture_of(with_fields(config, "mixture", held_out_rows=0), {"moods": rows})
    teacher = Engine(load_model(backbone))
    engine = Engine(initial_model(config.model, 0), max_length=64)
    drawn = Chunks(engine, mixture, config, teacher).draw(0)
    assert sum(bool(row.examples) for row in drawn) > len(drawn) // 2
    for row in drawn:
        for example in row.examples:
            assert normalized(example.text) != normalized(row.text)
            assert set(example.labels) <= set(row.labels)


@pytest.mark.parametrize(("vary", "numbers"), [(False, {3}), (True, {1, 2, 3})])
def test_the_number_of_examples_may_vary(config, backbone, vary, numbers):
    config = with_fields(
        config, "augmentation", example_probability=1.0, max_examples=3, vary_examples=vary
    )
    engine = Engine(initial_model(config.model, 0), max_length=64)
    chunks = Chunks(engine, mixture_of(config), config, Engine(load_model(backbone)))
    assert {len(row.examples) for row in chunks.draw(0) if row.examples} == numbers


def test_distilled_targets_mix_truth_and_the_teachers_probabilities(config, backbone):
    mixture = mixture_of(config)
    teacher = Engine(load_model(backbone))
    engine = Engine(initial_model(config.model, 0), max_length=64)
    chunks = Chunks(engine, mixture, config, teacher)
    rows, tokenised = chunks.draw(3), chunks.training_set(3)
    for i, row in enumerate(rows):
        _, targets = tokenised.rows.row(i)
        logits = torch.from_numpy(teacher.logits([row.text], row.labels)[0])
        opinion = logits.sigmoid() if row.multi_label else logits.softmax(dim=0)
        expected = 0.8 * np.array(row.targets) + 0.2 * opinion.numpy()
        np.testing.assert_allclose(targets, expected, atol=1e-4)


def test_every_wording_in_the_package_belongs_to_one_label(tmp_path):
    assert len(read_wordings().sets) > 20
    clash = {"sets": {"a": {"family": "x", "labels": {"joy": ["Glad "], "fun": ["glad"]}}}}
    path = tmp_path / "clash.json"
    path.write_text(json.dumps(clash))
    with pytest.raises(ValueError, match="'glad' stands for both 'joy' and 'fun'"):
        read_wordings(path)


# The model and the loss.


def test_the_first_logits_are_scaled_cosines(config, backbone):
    engine = Engine(initial_model(config.model, 0))
    loaded = engine.loaded.network
    composer = engine.composer
    (text,) = composer.encode_texts(["fox"])
    prompt = composer.compose(composer.encode_labels(["joy"]), text)
    ids = np.concatenate(prompt["input_ids"]).tolist()
    with torch.no_grad():
        hidden = loaded.backbone(torch.tensor([ids]))[0][0]
    marker = ids.index(loaded.config.class_token_index)
    end = ids.index(loaded.config.text_token_index)
    cosine = torch.cosine_similarity(hidden[end:].mean(dim=0), hidden[marker:end].mean(dim=0), 0)
    found = engine.logits(["fox"], ["joy"])[0, 0]
    assert found == pytest.approx(15 * cosine.item() - 3.75, abs=1e-3)


@pytest.mark.parametrize("kind", ["label", "separator"])
def test_markers_start_from_the_embedding_that_is_asked_for(config, kind):
    loaded = initial_model(replace(config.model, markers=kind), 0)
    words = loaded.network.backbone.get_input_embeddings().weight.detach()
    ids = {"label": loaded.raw_text_tokenizer.encode("label", add_special_tokens=False).ids}
    ids["separator"] = [loaded.raw_text_tokenizer.token_to_id("[SEP]")]
    expected = words[ids[kind]].mean(dim=0)
    for index in (loaded.network.config.class_token_index, loaded.network.config.text_token_index):
        torch.testing.assert_close(words[index], expected)


@pytest.mark.parametrize("scorer", ["weighted-dot", "mlp", "hopfield"])
def test_a_scorer_that_starts_at_random_does_so_by_the_seed(config, scorer):
    model = replace(config.model, scorer=scorer, pooling="first", class_token_pooling="first")
    one, same, other = (
        Engine(initial_model(model, seed)).logits(["fox"], ["joy", "calm"]) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


# The run.


def weights_of(folder):
    return load_file(folder / "model" / "model.safetensors")


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


class Stop(Exception):
    pass


def stop_after(n):
    def on_step(step, loss):
        if step == n:
            raise Stop

    return on_step


@pytest.mark.parametrize(
    "trainable",
    ["all", pytest.param("lora", marks=[pytest.mark.needs("peft"), pytest.mark.slow])],
)
def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(config, data, tmp_path, trainable):
    config = with_fields(config, "training", trainable=trainable)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = with_fields(config, "training", averaging=2.0)
    assert pretrain(config, data, whole).finished
    # Killed before the first checkpoint of a step, then in the middle of a chunk, two steps after
    # a checkpoint, then once more.
    with pytest.raises(Stop):
        pretrain(config, data, parts, on_step=stop_after(2))
    with pytest.raises(Stop):
        pretrain(config, data, parts, resume=True, on_step=stop_after(6))
    with pytest.raises(Stop):
        pretrain(config, data, parts, resume=True, on_step=stop_after(9))
    with (parts / "log.jsonl").open("a") as log:
        # Where a machine dies, the last line may be torn.
        log.write('{"step": 9, "lo')
    assert pretrain(config, data, parts, resume=True).finished
    expected, found = weights_of(whole), weights_of(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    start = initial_model(config.model, 0).network.state_dict()
    assert any(not torch.equal(expected[f"model.{name}"], value) for name, value in start.items())

    def without_speed(entries):
        return [{k: v for k, v in e.items() if "second" not in k} for e in entries]

    # A resumed run logs the mean loss since it was resumed, so that some means differ.
    steps = [(e["step"], "loss" in e) for e in log_of(parts)]
    assert steps == [(e["step"], "loss" in e) for e in log_of(whole)]
    scores = [[e for e in log_of(f) if "held_out" in e] for f in (whole, parts)]
    assert without_speed(scores[0]) == without_speed(scores[1])


def test_the_model_of_a_kept_step_is_that_of_a_run_which_ended_there(config, data, tmp_path):
    config = with_fields(config, "training", decay=False, averaging=2.0)
    whole = with_fields(config, "record", kept_steps=[5])
    assert pretrain(whole, data, tmp_path / "whole").finished
    assert pretrain(with_fields(config, "training", n_steps=5), data, tmp_path / "short").finished
    kept, short = (
        load_file(tmp_path / folder / "model.safetensors")
        for folder in ("whole/step-5", "short/model")
    )
    assert kept.keys() == short.keys()
    assert all(torch.equal(kept[name], short[name]) for name in kept)
    last = load_file(tmp_path / "whole/model/model.safetensors")
    assert any(not torch.equal(kept[name], last[name]) for name in kept)


@pytest.mark.slow
def test_the_loss_falls_and_the_model_predicts(config, data, tmp_path):
    rates = {"learning_rate": 1e-2, "head_learning_rate": 1e-2, "distillation": 0.0}
    config = with_fields(config, "training", n_steps=75, batch_size=12, **rates)
    config = with_fields(config, "mixture", weights={"words": 0, "subjects": 0, "moods.two": 0})
    plain = {f.name: 0.0 for f in fields(AugmentationConfig) if f.name.endswith("probability")}
    config = with_fields(config, "augmentation", **{**plain, "full_set_probability": 1.0})
    before = torch.random.get_rng_state()
    outcome = pretrain(config, data, tmp_path / "run")
    assert torch.equal(before, torch.random.get_rng_state())
    losses = [e["loss"] for e in log_of(tmp_path / "run") if "loss" in e]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    assert outcome.loss == pytest.approx(losses[-1], rel=1e-4)
    classifier = GLiClassClassifier(str(tmp_path / "run" / "model"), labels=list(MOODS))
    assert classifier.score([f"{words} 7" for words in MOODS.values()], list(MOODS)) == 1.0


@pytest.mark.slow
def test_the_model_is_an_average_of_the_weights_along_the_run(config, data, tmp_path):
    plain = {"warmup_fraction": 0.0, "decay": False, "distillation": 0.0, "chunk_steps": 4}

    def weights_after(n_steps, **options):
        own = with_fields(config, "training", n_steps=n_steps, **plain, **options)
        folder = tmp_path / f"{n_steps}-{options}"
        pretrain(own, data, folder)
        return weights_of(folder)

    each = [weights_after(n) for n in (1, 2, 3)]
    for averaging, counts in ((0.0, (1 / 3, 1 / 3, 1 / 3)), (1.0, (1 / 6, 1 / 3, 1 / 2))):
        for name, found in weights_after(3, averaging=averaging).items():
            wanted = sum(n * one[name] for n, one in zip(counts, each, strict=True))
            torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def test_the_first_layers_may_stay_as_they_are(config, data, tmp_path):
    config = with_fields(config, "training", n_steps=2, trainable="layers", frozen_layers=1)
    pretrain(config, data, tmp_path / "run")
    before = initial_model(config.model, 0).network.state_dict()
    after = weights_of(tmp_path / "run")
    for name, value in before.items():
        assert not ("layer.0." in name and not torch.equal(value, after[f"model.{name}"])), name
    config = with_fields(config, "training", frozen_layers=2)
    with pytest.raises(ValueError, match="frozen_layers is 2, but the backbone has 1 layers"):
        pretrain(config, data, tmp_path / "other")


def test_without_dropout_a_loss_does_not_depend_on_the_seed(config):
    config = with_fields(config, "training", n_steps=1, chunk_steps=1)
    config = with_fields(config, "model", architecture="bi-encoder")

    def loss(seed, dropout):
        own = with_fields(config, "training", backbone_dropout=dropout)
        run = _make_run(initial_model(own.model, 0), own)
        run.use(Chunks(run.engine, mixture_of(own), own, None).training_set(0))
        run.options = replace(run.options, seed=seed)
        return run.step(np.arange(4))

    assert loss(1, 0.0) == loss(2, 0.0)
    assert loss(1, None) != loss(2, None)


def test_the_log_says_loss_speed_rate_and_scores(config, data, tmp_path):
    pretrain(config, data, tmp_path / "run", evaluate=True)
    entries = log_of(tmp_path / "run")
    assert [e["step"] for e in entries] == [0, 3, 6, 6, 9, 12, 12]
    for entry in entries:
        if "loss" in entry:
            fields = {"step", "loss", "learning_rate", "tokens_per_second", "rows_per_second"}
            assert entry.keys() == fields
            assert entry["tokens_per_second"] > entry["rows_per_second"] > 0
        else:
            assert set(entry["held_out"]) == {"moods", "moods.two", "subjects", "words"}
            assert set(entry["eval"]) == {"moods", "subjects", "words"}
            mean = np.mean(list(entry["held_out"].values()))
            assert entry["held_out_mean"] == pytest.approx(mean, abs=1e-5)


def test_time_over_leaves_a_checkpoint_whose_model_can_be_written(config, data, tmp_path):
    outcome = pretrain(config, data, tmp_path / "run", max_minutes=1e-9)
    assert (outcome.step, outcome.finished) == (0, False)
    folder = finish(tmp_path / "run")
    text, labels = ["fox"], ["joy", "calm"]
    found = Engine(load_model(str(folder))).logits(text, labels)
    expected = Engine(initial_model(config.model, 0)).logits(text, labels)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("together", [1, 2])
def test_a_bi_encoder_trains_too_and_can_be_shown_examples(config, data, tmp_path, together):
    config = with_fields(config, "model", architecture="bi-encoder")
    config = with_fields(config, "training", rows_together=together)
    assert pretrain(config, data, tmp_path / "run").finished
    entry = log_of(tmp_path / "run")[1]
    assert entry["tokens_per_second"] > entry["rows_per_second"]
    folder = str(tmp_path / "run" / "model")
    words = "encoder_model.embeddings.word_embeddings.weight"
    start = initial_model(config.model, 0).network.state_dict()[words]
    changed = (weights_of(tmp_path / "run")[f"model.{words}"] != start).any(dim=1)
    marker = load_model(folder).network.config.example_token_index
    assert changed[marker]
    classifier = GLiClassClassifier(folder, list(MOODS), n_retrieved=2, max_epochs=0)
    texts = [f"{words} {i}" for words in MOODS.values() for i in range(3)]
    plain = GLiClassClassifier(folder, list(MOODS)).predict_proba(["fox"])
    shown = classifier.fit(texts, np.repeat(list(MOODS), 3)).predict_proba(["fox"])
    assert not np.allclose(plain, shown)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["uni-encoder", "bi-encoder"])
def test_a_trained_model_is_trained_further(config, data, tmp_path, architecture):
    first = with_fields(config, "model", architecture=architecture, logit_scale=7.0)
    pretrain(first, data, tmp_path / "first")
    folder = str(tmp_path / "first" / "model")
    further = replace(config, model=ModelConfig(folder, architecture, max_length=64))
    start = initial_model(further.model, 0).network.state_dict()
    trained = weights_of(tmp_path / "first")
    assert all(torch.equal(value, trained[f"model.{name}"]) for name, value in start.items())
    pretrain(further, data, tmp_path / "second")
    second = load_model(str(tmp_path / "second" / "model")).network
    changed = "encoder_model.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(second.state_dict()[changed], start[changed])
    assert second.config.architecture_type == architecture
    # What it was before is the teacher, and is still there.
    again = load_model(folder).network.state_dict()
    assert all(torch.equal(again[name], value) for name, value in start.items())


@pytest.mark.parametrize("architecture", ["uni-encoder", "bi-encoder"])
def test_layers_alone_can_be_trained(config, data, tmp_path, architecture):
    config = with_fields(config, "model", architecture=architecture)
    config = with_fields(config, "training", trainable="layers")
    pretrain(config, data, tmp_path / "run")
    before = initial_model(config.model, 0).network.state_dict()
    after = weights_of(tmp_path / "run")
    same = {name for name, value in before.items() if torch.equal(value, after[f"model.{name}"])}
    tables = {name for name in before if name.endswith("embeddings.weight")}
    projector = {name for name in before if "biencoder_projector" in name}
    assert tables
    assert same >= tables | projector
    # What no gradient reaches stays too, such as a backbone's own pooler.
    assert {n for n in before if "attention.self.query.weight" in n}.isdisjoint(same)
    assert {n for n in before if "text_projector" in n}.isdisjoint(same)


# What may be wrong.


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"training": {"n_step": 3}}, "training.n_step is unknown; did you mean 'n_steps'"),
        ({"training": {"n_steps": 2.5}}, "training.n_steps is 2.5; it must be a whole number"),
        ({"training": {"n_steps": True}}, "training.n_steps is True; it must be a whole number"),
        ({"mixture": {"temperature": 2}}, "mixture.temperature is 2; it must be between 0 and 1"),
        ({"mixture": {"weights": {"a": -1}}}, "mixture.weights.a is -1; it must be at least 0"),
        ({"mixture": {"kinds": {"a": 1}}}, r"mixture.kinds.a is 1; .* \[mixture.kinds.a\]"),
        ({"mixture": {"kinds": {"a": {"sets": []}}}}, "mixture.kinds.a.share is missing"),
        ({"mixture": {"kinds": {"a": {"set": []}}}}, "a.set is unknown; did you mean 'sets'"),
        ({"mixture": {"hypotheses": "a"}}, "mixture.hypotheses is 'a'; it must be a list of names"),
        ({"model": {"pooling": "max"}}, "model.pooling is 'max'; choose from avg, first"),
        ({"model": {"prompt_first": 1}}, "model.prompt_first is 1; it must be true or false"),
        ({"model": 3}, r"model is 3; it must be a table \[model\]"),
        (
            {"model": {"prompt_first": False}},
            "model.extract_text_features must be false",
        ),
    ],
)
def test_a_wrong_field_is_named(table, message):
    with pytest.raises(ValueError, match=message):
        config_from_table(table)


def test_an_error_names_the_file_and_fills_one_line(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[training]\nlora_rank = 0\nn_steps = 0\n[model]\nscorer = 'cross-attn'\n")
    with pytest.raises(ValueError, match=r"model\.scorer is 'cross-attn'; choose from") as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_architecture_that_compares_no_vectors_cannot_be_pretrained(tmp_path):
    folder = encoder_checkpoint(tmp_path, "qwen3")
    config = ModelConfig(str(folder), architecture="decoder-kv")
    with pytest.raises(ValueError, match=r"model\.architecture is 'decoder-kv', whose logits"):
        initial_model(config, 0)


def test_what_a_file_leaves_out_has_its_default(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[training]\nlearning_rate = 1\n")
    config = read_config(path)
    assert config.training.learning_rate == 1.0
    assert config.augmentation == AugmentationConfig()
    path.write_text("[training\n")
    with pytest.raises(ValueError, match="is not valid TOML"):
        read_config(path)


@pytest.mark.parametrize("path", sorted(CONFIGURATIONS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_configurations_in_the_repository_are_valid(path):
    config = read_config(path)
    assert config.model.backbone in (EMBEDDED_HUB_ID, "mini")
    assert config.training.batch_size % config.training.rows_together == 0


def test_a_run_is_not_mixed_with_another(config, data, tmp_path):
    output = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match="There is no checkpoint in"):
        pretrain(config, data, output, resume=True)
    pretrain(config, data, output, max_minutes=1e-9)
    with pytest.raises(FileExistsError, match="is not empty"):
        pretrain(config, data, output)
    other = with_fields(config, "training", seed=1)
    with pytest.raises(ValueError, match=r"training.seed is 1, but .* written with 0"):
        pretrain(other, data, output, resume=True)
    (output / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        pretrain(config, data, output, resume=True)


@pytest.fixture(scope="module")
def stopped(config, data, tmp_path_factory):
    """A run that was killed after the checkpoint of its fourth step."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Stop):
        pretrain(config, data, folder, on_step=stop_after(5))
    return folder


def _without_tensor(path):
    """Drop one in the way of somebody else's program, which keeps what the file says of itself."""
    with safe_open(path, "pt") as file:
        metadata, names = file.metadata(), sorted(file.keys())
        kept = {name: file.get_tensor(name).clone() for name in names[:-1]}
    save_file(kept, path, metadata=metadata)


DAMAGE_OF_FACTS = [
    lambda facts, tensors: facts.clear(),
    lambda facts, tensors: facts.update(step=None),
    lambda facts, tensors: facts.update(step=-3),
    lambda facts, tensors: facts.update(sets=["moods"]),
    lambda facts, tensors: facts.update(sets={"moods": "x"}),
    lambda facts, tensors: facts.update(config=None),
    lambda facts, tensors: facts["config"]["training"].update(n_steps="x"),
]
DAMAGE_OF_FILES = [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:-100]),
    lambda path: path.write_bytes(b"\0" * 100),
    lambda path: save_file({"weight.x": torch.zeros(1)}, path),
    lambda path: save_file({}, path, metadata={"pretraining": "[" * 100_000}),
    _without_tensor,
]


@pytest.mark.parametrize(
    "damage",
    [
        *(partial(change_checkpoint, kind="pretraining", damage=d) for d in DAMAGE_OF_FACTS),
        *(partial(change_checkpoint, kind="pretraining", damage=d) for d in DAMAGE_OF_TENSORS),
        *DAMAGE_OF_FILES,
    ],
)
def test_a_damaged_checkpoint_is_named(stopped, tmp_path, damage):
    output = Path(shutil.copytree(stopped, tmp_path / "run"))
    damage(output / "checkpoint.safetensors")
    with pytest.raises(ValueError, match=r"run/checkpoint\.safetensors is not a checkpoint"):
        finish(output)


def test_nor_does_a_run_go_on_from_one(config, data, stopped, tmp_path):
    output = Path(shutil.copytree(stopped, tmp_path / "run"))
    change_checkpoint(output / "checkpoint.safetensors", "pretraining", DAMAGE_OF_TENSORS[0])
    log = (output / "log.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"run/checkpoint\.safetensors is not a checkpoint"):
        pretrain(config, data, output, resume=True)
    assert (output / "log.jsonl").read_bytes() == log


def test_changed_data_are_refused_on_resuming(config, data, tmp_path):
    pretrain(config, data, tmp_path / "run", max_minutes=1e-9)
    (tmp_path / "pretrain").mkdir()
    write_examples(tmp_path / "pretrain" / "moods.jsonl.gz", toy_sets()["moods"])
    with pytest.raises(ValueError, match="The sets have changed"):
        pretrain(config, tmp_path, tmp_path / "run", resume=True)


def test_a_trained_model_takes_no_settings_of_a_new_one(config, data, tmp_path):
    pretrain(config, data, tmp_path / "run", max_minutes=1e-9)
    folder = str(finish(tmp_path / "run"))
    with pytest.raises(ValueError, match=r"model.scorer has no effect: .*, a GLiClass that"):
        initial_model(ModelConfig(folder, scorer="mlp"), 0)
    with pytest.raises(ValueError, match="A checkpoint cannot change its architecture"):
        initial_model(ModelConfig(folder, architecture="bi-encoder"), 0)


def test_every_row_has_a_task_of_its_own_wherever_it_stands(config, data, tmp_path):
    folder = tmp_path / "text-first"
    reference_checkpoint(folder, prompt_first=False)
    augmentation = replace(config.augmentation, task_probability=0.5)
    config = replace(config, model=ModelConfig(str(folder)), augmentation=augmentation)
    engine = Engine(initial_model(config.model, 0))
    wordings = read_wordings(config.augmentation.wordings)
    mixture = make_mixture(read_sets(data / "pretrain"), config.mixture, wordings, 0)
    chunks = Chunks(engine, mixture, config, None)
    rows, texts = chunks.draw(0), chunks.training_set(0).texts
    tasks = [row.task for row in rows]
    assert len(set(tasks)) > 1
    for i, task in enumerate(tasks):
        assert texts.task(i).tolist() == engine.composer.encode_task_apart(task).tolist()


# The command.


def test_the_command_trains_resumes_and_finishes(data, wordings, tmp_path, capsys):
    backbone = encoder_checkpoint(tmp_path / "backbone")
    path, output = tmp_path / "config.toml", tmp_path / "run"
    path.write_text(
        f'[model]\nbackbone = "{backbone}"\nmax_length = 64\n'
        "[training]\nn_steps = 500\nbatch_size = 2\nchunk_steps = 4\n"
        f'[augmentation]\nwordings = "{wordings}"\n'
    )
    command = ["pretrain", "--data", str(data), "--config", str(path), "--output", str(output)]
    assert main([*command, "--n-steps", "4", "--max-minutes", "1e-9"]) == 0
    assert "--resume goes on" in capsys.readouterr().out
    assert main([*command, "--n-steps", "4", "--resume", "--eval"]) == 0
    assert f"written to        {output / 'model'}" in capsys.readouterr().out
    assert main(["pretrain", "--output", str(output), "--finish"]) == 0
    assert main(command) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "c.toml"], "--data is missing"),
        (["--data", "d"], "--config is missing"),
        (["--data", "d", "--config", "c", "--max-minutes", "0"], "--max-minutes 0: it must"),
        (["--finish"], "There is no checkpoint in"),
        (["--finish", "--resume"], "--resume has no effect with --finish"),
        (["--finish", "--n-steps", "3"], "--n-steps has no effect with --finish"),
        (["--output", ""], "--output is empty"),
        (["--output", "no/such/run"], "there is no folder"),
    ],
)
def test_a_wrong_option_is_named(arguments, message, tmp_path, capsys):
    assert main(["pretrain", "--output", str(tmp_path / "run"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_extra_is_named_where_pydantic_is_missing(tmp_path, monkeypatch, capsys):
    for name in ("config", "run"):
        monkeypatch.delitem(sys.modules, f"skgliclass.pretraining.{name}")
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert main(["pretrain", "--output", str(tmp_path), "--finish"]) == 2
    assert (
        'pip install pydantic (in a clone of skgliclass: pip install ".[pretraining]")'
        in capsys.readouterr().err
    )


def test_missing_and_damaged_sets_are_named(config, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        pretrain(config, tmp_path, tmp_path / "run")
    (tmp_path / "pretrain").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no file that ends with \.jsonl\.gz"):
        pretrain(config, tmp_path, tmp_path / "run")
    with gzip.open(tmp_path / "pretrain" / "a.jsonl.gz", "wt") as file:
        file.write('{"text": "a", "all_labels": ["b"], "true_labels": ["c"]}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz, line 1: true_labels names 'c'"):
        pretrain(config, tmp_path, tmp_path / "run")
