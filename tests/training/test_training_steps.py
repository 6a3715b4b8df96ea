"""How batches are divided, and that every architecture learns from them."""

import copy
import itertools
import json
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from test_training import LABELS, options, toy
from tiny import encoder_checkpoint, reference_checkpoint

from skgliclass.engine.batching import group_by_length
from skgliclass.engine.engine import Engine
from skgliclass.loading.loader import load_model
from skgliclass.modeling import passes
from skgliclass.modeling.uni_encoder import UniEncoder
from skgliclass.prompts.examples import PromptExample
from skgliclass.training.data import LabelledRows, make_training_set
from skgliclass.training.loop import Run, make_steps, train
from skgliclass.training.processes import joined_processes

ARCHITECTURES = {
    "bi-encoder-fused": ("bert", {"pooling_strategy": "avg"}),
    "encoder-decoder": ("t5", {"pooling_strategy": "avg"}),
    "encoder-decoder-cls": ("t5", {}),
    "decoder-kv": ("qwen3", {}),
    "uni-encoder": ("bert", {"layer_wise": True, "contrastive_loss_coef": 0.1}),
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def any_engine(request, tmp_path_factory):
    kind, fields = ARCHITECTURES[request.param]
    folder = tmp_path_factory.mktemp("model")
    fields = {"architecture_type": request.param, "dropout": 0.0, **fields}
    reference_checkpoint(folder, kind, **fields)
    return Engine(load_model(str(folder)))


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    return Engine(load_model(str(encoder_checkpoint(tmp_path_factory.mktemp("uni"), n_layers=1))))


def data_for(engine, n=24, **changes):
    texts, targets = toy(n)
    return make_training_set(engine, texts, LABELS, LabelledRows.shared(targets), **changes)


def cost(lengths, groups, fixed_cost):
    return sum(len(g) * max(lengths[g]) + fixed_cost for g in groups)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fixed_cost", [0, 10, 1000])
def test_groups_cost_least(seed, fixed_cost):
    lengths = np.random.default_rng(seed).integers(1, 60, size=7)
    groups = group_by_length(lengths, 10_000, fixed_cost)
    assert sorted(np.concatenate(groups)) == list(range(7))
    order = np.argsort(-lengths, kind="stable")
    cuts = itertools.chain.from_iterable(itertools.combinations(range(1, 7), r) for r in range(7))
    best = min(cost(lengths, np.split(order, list(c)), fixed_cost) for c in cuts)
    assert cost(lengths, groups, fixed_cost) == best


def test_groups_stay_within_the_token_budget_but_for_a_single_long_row():
    lengths = np.array([3, 500, 40, 40, 40, 2])
    groups = group_by_length(lengths, 100, 1000)
    assert all(len(g) * max(lengths[g]) <= 100 or len(g) == 1 for g in groups)
    assert [1] in [g.tolist() for g in groups]


@pytest.mark.parametrize(
    ("trainable", "rate"), [("all", 3e-3), pytest.param("head", 3e-2, marks=pytest.mark.slow)]
)
def test_every_architecture_learns(any_engine, trainable, rate):
    # Without dropout, whose noise in the loss is larger than what six rows teach.
    network = copy.deepcopy(any_engine.loaded.network)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    engine = any_engine.around(replace(any_engine.loaded, network=network))
    changes = {"learning_rate": rate, "head_learning_rate": rate, "shuffle_labels": False}
    result = train(
        engine,
        data_for(engine, 6),
        options(trainable=trainable, multi_label=True, max_epochs=20, batch_size=6, **changes),
    )
    assert min(result.loss_curve[-5:]) < 0.95 * result.loss_curve[0]


def deberta_without_dropout(folder):
    encoder_checkpoint(folder, "deberta-v2")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return Engine(load_model(str(folder)))


def test_a_backbone_trains_through_its_fast_pass_as_without(tmp_path, monkeypatch):
    engine = deberta_without_dropout(tmp_path)
    taken = []
    name = "transformers.models.deberta_v2.modeling_deberta_v2.DebertaV2Model"
    fast = passes.FAST_PASSES[name]
    run = replace(fast, run=lambda *args: taken.append(args) or fast.run(*args))
    curves = []
    for known in ({name: run}, {}):
        monkeypatch.setattr(passes, "FAST_PASSES", known)
        result = train(engine, data_for(engine, 12), options(max_epochs=3, batch_size=6))
        curves.append(result.loss_curve)
    assert len(taken) >= 6
    assert curves[0][-1] < 0.95 * curves[0][0]
    np.testing.assert_allclose(*curves, rtol=1e-4)


def gradients_of(engine, data, max_batch_tokens):
    training = Run(engine, data, options(max_batch_tokens=max_batch_tokens, shuffle_labels=False))
    training.trainable.train = training.model.eval
    training.optimizer.step = training.scheduler.step = lambda: None
    training.step(np.arange(len(data)))
    return {n: p.grad for n, p in training.model.named_parameters() if p.grad is not None}


def test_micro_batches_give_the_gradient_of_the_batch(any_engine):
    if any_engine.loaded.network.config.contrastive_loss_coef:
        pytest.skip("the contrastive term is a mean over labels, not over pairs")
    data = data_for(any_engine)
    whole, divided = (gradients_of(any_engine, data, tokens) for tokens in (100_000, 30))
    assert whole.keys() == divided.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(divided[name], gradient, rtol=1e-3, atol=1e-5)


def test_a_frozen_backbone_runs_once_over_each_text(uni, monkeypatch):
    rows = []
    features = UniEncoder.features

    def counted(self, input_ids, *args, **kwargs):
        rows.append(len(input_ids))
        return features(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(UniEncoder, "features", counted)
    result = train(uni, data_for(uni), options(trainable="head", max_epochs=4))
    assert sum(rows) == 24
    assert result.loss_curve[-1] < result.loss_curve[0]


def test_a_frozen_backbone_gives_what_the_whole_model_gives(uni):
    data = data_for(uni)
    rng = np.random.default_rng(0)
    model = uni.loaded.network
    frozen = make_steps(uni, data, options(trainable="head"), rng)
    whole = make_steps(uni, data, options(shuffle_labels=False), rng)
    model.eval()
    rows = np.array([5, 0, 17])
    with torch.no_grad():
        (part,) = frozen.prepare(rows)
        (ours,) = frozen.scores(part)
        parts = list(whole.prepare(rows))
        for other in parts:
            (theirs,) = whole.scores(other)
            for i, row in enumerate(other.rows):
                k = rows.tolist().index(row)
                torch.testing.assert_close(ours.logits[k], theirs.logits[i])


def test_examples_are_shown_whole_or_not_at_all(uni):
    marker = uni.loaded.text_tokenizer.marker_id("<<EXAMPLE>>")
    short, long = PromptExample("fox dog", ["sport"]), PromptExample("dog " * 2000, ["sport"])
    data = data_for(uni, 6, examples=[[short, long, short]] * 6)
    steps = make_steps(uni, data, options(), np.random.default_rng(0))
    shown = set()
    for _ in range(20):
        for part in steps.prepare(np.arange(6)):
            counts = part.inputs["input_ids"].eq(marker).sum(dim=1)
            shown.update(counts.tolist())
    # The second does not fit, and none comes after one that was left out.
    assert shown == {0, 1}


def _one_of_two(rank, folder, path, port):
    import os

    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)
    # By itself, whatever the environment says: unrelated trainings would be averaged.
    alone = _trained(folder)
    assert not torch.distributed.is_initialized()
    with joined_processes() as processes:
        assert (processes.rank, processes.size) == (rank, 2)
        assert processes.is_first == (rank == 0)
        together = _trained(folder)
    assert not torch.distributed.is_initialized()
    torch.save({"alone": alone, "together": together}, f"{path}.{rank}")


def _trained(folder):
    engine = Engine(load_model(str(folder)))
    model = engine.loaded.network
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for config in (model.config.encoder_config, model.encoder_model.config):
        config.attention_probs_dropout_prob = 0.0
    result = train(engine, data_for(engine), options(max_epochs=3, max_batch_tokens=40))
    tuned = Engine(result.weights.apply(engine.loaded))
    return {"loss": result.loss_curve, "logits": torch.from_numpy(tuned.logits(toy(9)[0], LABELS))}


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    folder = encoder_checkpoint(tmp_path / "model")
    mp.spawn(_one_of_two, args=(folder, tmp_path / "of", port), nprocs=2)
    alone = _trained(folder)
    for rank in range(2):
        of_rank = torch.load(tmp_path / f"of.{rank}")
        assert of_rank["alone"]["loss"] == pytest.approx(alone["loss"], rel=1e-6)
        together = of_rank["together"]
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        torch.testing.assert_close(together["logits"], alone["logits"], rtol=1e-2, atol=1e-2)


def test_a_fit_does_not_read_what_a_launcher_says(uni, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    train(uni, data_for(uni), options(max_epochs=1))
    assert not torch.distributed.is_initialized()


def test_without_a_launcher_a_process_is_alone(uni, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_processes() as processes:
        assert processes.is_first
        assert processes.size == 1
        train(uni, data_for(uni), options(max_epochs=1))


def test_a_training_set_holds_little_but_its_tokens(uni):
    n = 20_000
    texts = [f"the quick brown fox jumps over the lazy dog {i}" for i in range(n)]
    rows = LabelledRows.shared(np.zeros((n, len(LABELS)), dtype=np.float32))
    tracemalloc.start()
    try:
        data = make_training_set(uni, texts, LABELS, rows)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    table = data.texts.forms[False, False]
    # A position for each text tells which task description it has, and which text is meant.
    own = table.ids.nbytes + 3 * table.offsets.nbytes + data.weights.nbytes
    assert held < own + 2**18
    # The tokens once more while they are put together, and some texts' as lists.
    assert peak < 2 * own + 2**22
