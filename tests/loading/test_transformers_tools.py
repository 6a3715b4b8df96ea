"""A GLiClassModel beside the tools of transformers: the Auto classes and the Trainer."""

import numpy as np
import pytest
import torch
from tiny import reference_checkpoint
from transformers import AutoConfig, AutoModel, AutoTokenizer, Trainer, TrainingArguments

from skgliclass import GLiClassClassifier, GLiClassConfig, GLiClassModel

PROMPT = "<<LABEL>>travel<<LABEL>>sport<<SEP>>One day I will see the world!"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(folder)
    return folder


def test_auto_classes_read_checkpoints(checkpoint):
    assert isinstance(AutoConfig.from_pretrained(checkpoint), GLiClassConfig)
    model = AutoModel.from_pretrained(checkpoint)
    assert isinstance(model, GLiClassModel)
    inputs = AutoTokenizer.from_pretrained(checkpoint)(PROMPT, return_tensors="pt")
    ids = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = GLiClassModel.from_pretrained(checkpoint)(**ids).logits
        torch.testing.assert_close(model.eval()(**ids).logits, expected)


def test_auto_classes_build_models(checkpoint):
    config = AutoConfig.from_pretrained(checkpoint)
    assert isinstance(AutoModel.from_config(config), GLiClassModel)


def test_auto_classes_save_what_they_read(checkpoint, tmp_path):
    AutoModel.from_pretrained(checkpoint).save_pretrained(tmp_path)
    before, after = (
        AutoModel.from_pretrained(folder).state_dict() for folder in (checkpoint, tmp_path)
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_trainer_trains(checkpoint, tmp_path):
    model = GLiClassModel.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    texts = ["a long trip by train", "the match ended in a draw"] * 8
    rows = [
        {
            **tokenizer(f"<<LABEL>>travel<<LABEL>>sport<<SEP>>{text}"),
            "labels": [1.0, 0.0] if number % 2 == 0 else [0.0, 1.0],
        }
        for number, text in enumerate(texts)
    ]
    arguments = TrainingArguments(
        output_dir=tmp_path,
        num_train_epochs=8,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        logging_steps=2,
        save_strategy="epoch",
        save_total_limit=1,
        report_to=[],
        # The Trainer takes every argument with "label" in its name for a target otherwise.
        label_names=["labels"],
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    trainer = Trainer(
        model, arguments, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.7 * before
    scores = trainer.predict(rows).predictions
    logits = scores[0] if isinstance(scores, tuple) else scores
    assert logits.shape == (16, 2)
    assert np.array_equal(logits.argmax(axis=1), np.arange(16) % 2)
    (folder,) = tmp_path.glob("checkpoint-*")
    saved = AutoModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(saved[name], value) for name, value in model.state_dict().items())


def test_a_checkpoint_that_was_saved_without_its_tokenizer(checkpoint, tmp_path):
    """As the Trainer saves it where it is given none."""
    GLiClassModel.from_pretrained(checkpoint).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no tokenizer: .*processing_class=tokenizer"):
        GLiClassClassifier(model=tmp_path, labels=["travel", "sport"]).predict(["A week in Oslo"])
