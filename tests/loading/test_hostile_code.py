"""Code from a checkpoint never runs, and nothing that it names is fetched."""

import ast
import builtins
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from hostile import LABELS, TEXTS, change_json, make_checkpoints

import skgliclass
from skgliclass import GLiClassClassifier, GLiClassModel, GLiClassTransformer
from skgliclass.__main__ import main
from skgliclass.engine.engine import Engine
from skgliclass.export import export_onnx
from skgliclass.loading.checkpoints import save_checkpoint
from skgliclass.loading.loader import load_model

CANARY = """
from pathlib import Path
(Path(__file__).parent / "ran").touch()
Path({marker!r}).touch()
from transformers import BertConfig, BertModel, BertTokenizer
class Config(BertConfig): model_type = "made-up"
class Model(BertModel): config_class = Config
class Tokenizer(BertTokenizer): pass
"""
AUTO_MAP = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
TOKENIZER_MAP = {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """The file that code of a checkpoint would write; whoever is asked says yes."""
    asked = []

    def yes(*question):
        asked.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", yes)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 50))
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "code of a checkpoint ran"
    assert not asked


def with_code(folder, target, marker):
    shutil.copytree(folder, target)
    (target / "evil.py").write_text(CANARY.format(marker=str(marker)))
    return target


def needs_own_model(folder):
    change_json(folder / "config.json", model_type="made-up", auto_map=AUTO_MAP)


def needs_own_backbone(folder):
    change_json(
        folder / "config.json",
        encoder_config__model_type="made-up",
        encoder_config__auto_map=AUTO_MAP,
    )


def needs_own_label_model(folder):
    change_json(
        folder / "config.json",
        label_model_config__model_type="made-up",
        label_model_config__auto_map=AUTO_MAP,
    )


def _own_tokenizer(folder, **settings):
    (folder / "tokenizer.json").unlink(missing_ok=True)
    text = json.dumps({"auto_map": TOKENIZER_MAP, **settings})
    (folder / "tokenizer_config.json").write_text(text)


def needs_own_tokenizer(folder):
    _own_tokenizer(folder, tokenizer_class="Tokenizer")


def needs_own_nameless_tokenizer(folder):
    change_json(folder / "config.json", model_type="made-up")
    _own_tokenizer(folder)


def needs_own_label_tokenizer(folder):
    _own_tokenizer(folder / "label_tokenizer", tokenizer_class="Tokenizer")


def needs_own_module(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "evil.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))


NEEDY = [
    ("encoder", needs_own_model),
    ("sentences", needs_own_model),
    ("uni", needs_own_model),
    ("uni", needs_own_backbone),
    ("apart", needs_own_label_model),
    ("encoder", needs_own_tokenizer),
    ("sentences", needs_own_tokenizer),
    ("uni", needs_own_tokenizer),
    ("encoder", needs_own_nameless_tokenizer),
    ("apart", needs_own_label_tokenizer),
    ("sentences", needs_own_module),
]


@pytest.mark.parametrize(
    ("kind", "change"), NEEDY, ids=[f"{kind}-{change.__name__}" for kind, change in NEEDY]
)
def test_what_needs_code_of_its_own_is_refused(checkpoints, tmp_path, marker, kind, change):
    folder = with_code(checkpoints[kind], tmp_path / kind, marker)
    change(folder)
    with pytest.raises(ValueError, match=r"(?i)code|type 'made-up'") as caught:
        load_model(str(folder), device="cpu")
    assert "trust_remote_code" not in str(caught.value)


@pytest.mark.parametrize("kind", ["encoder", "sentences", "uni", "apart"])
def test_code_is_ignored_where_transformers_knows_the_model(checkpoints, tmp_path, marker, kind):
    folder = with_code(checkpoints[kind], tmp_path / kind, marker)
    nested = {"encoder_config__auto_map": AUTO_MAP} if kind in ("uni", "apart") else {}
    change_json(folder / "config.json", auto_map=AUTO_MAP, **nested)
    change_json(folder / "tokenizer_config.json", auto_map=TOKENIZER_MAP)
    loaded = load_model(str(folder), device="cpu")
    # Nor is it handed on.
    save_checkpoint(tmp_path / "saved", loaded)
    for path in (tmp_path / "saved").rglob("*.json"):
        assert "auto_map" not in path.read_text(), path


def _predict(folder):
    GLiClassClassifier(folder, labels=LABELS, device="cpu").predict(TEXTS)


def _from_pretrained(folder):
    GLiClassClassifier.from_pretrained(folder, labels=LABELS, device="cpu").predict(TEXTS)


def _transform(folder):
    GLiClassTransformer(folder, labels=LABELS, device="cpu").fit_transform(TEXTS)


def _export(folder):
    pytest.importorskip("onnxscript")
    export_onnx(folder, Path(folder).parent / "exported")


def _pretrain(folder):
    pytest.importorskip("pydantic")
    from skgliclass.pretraining.config import ModelConfig
    from skgliclass.pretraining.initial import initial_model

    initial_model(ModelConfig(folder), 0, "cpu")


def _command(*arguments):
    with pytest.raises(SystemExit) as caught:
        sys.exit(main([*arguments]))
    if caught.value.code not in (0, None):
        raise ValueError("code of its own")


def _train_command(folder):
    table = Path(folder).parent / "table.csv"
    table.write_text("text,label\na goal,sport\na trip,travel\n" * 4)
    _command("train", str(table), "--model", folder, "--output", f"{folder}-trained")


def _classify_command(folder):
    table = Path(folder).parent / "table.csv"
    table.write_text("text\na goal\n")
    _command("classify", str(table), "--model", folder, "--labels", *LABELS)


def _torch_model(folder):
    GLiClassModel.from_pretrained(folder)


ROADS = [
    _predict,
    _from_pretrained,
    _transform,
    _export,
    _pretrain,
    _train_command,
    _classify_command,
    _torch_model,
]


@pytest.mark.parametrize("road", ROADS, ids=[road.__name__.strip("_") for road in ROADS])
@pytest.mark.parametrize(
    ("kind", "change"), [("encoder", needs_own_model), ("uni", needs_own_tokenizer)]
)
def test_no_road_leads_to_code(checkpoints, tmp_path, marker, capfd, road, kind, change):
    if road is _torch_model:
        # It reads no tokenizer.
        kind, change = "uni", needs_own_backbone
    folder = with_code(checkpoints[kind], tmp_path / kind, marker)
    change(folder)
    with pytest.raises(ValueError, match=r"(?i)code|'made-up'"):
        road(str(folder))
    output = "".join(capfd.readouterr())
    assert "trust_remote_code" not in output
    assert "[y/N]" not in output


@pytest.mark.slow
def test_a_process_that_says_yes_runs_no_code(checkpoints, tmp_path):
    marker = tmp_path / "marker"
    folder = with_code(checkpoints["encoder"], tmp_path / "encoder", marker)
    needs_own_model(folder)
    _own_tokenizer(folder)
    (tmp_path / "table.csv").write_text("text,label\na goal,sport\na trip,travel\n" * 4)
    arguments = ["train", "table.csv", "--model", str(folder), "--output", "trained"]
    code = f"from skgliclass import *; GLiClassClassifier({str(folder)!r}, labels={LABELS})"
    for command in (["-m", "skgliclass", *arguments], ["-c", f"{code}.predict(['a'])"]):
        run = subprocess.run(
            [sys.executable, *command],
            input="y\n" * 20,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
        )
        assert run.returncode
        assert "never run" in run.stderr
        assert "trust_remote_code" not in run.stdout + run.stderr
        assert not marker.exists()


# What transformers would look for elsewhere.


@pytest.mark.parametrize(
    "fields",
    [
        {"_attn_implementation": "somebody/kernels"},
        {"attn_implementation": "somebody/kernels"},
        {"_experts_implementation": "somebody/kernels"},
        {"use_kernels": True, "kernel_config": {"RMSNorm": "somebody/kernels:RMSNorm"}},
        {"_commit_hash": "0" * 40, "_name_or_path": "somebody/else", "name_or_path": "a/b"},
        {"transformers_weights": "../weights.safetensors"},
        {"custom_pipelines": {"any": {"impl": "evil.Model"}}},
        {"fusion_config": {"patch_embeddings": True}},
        {"use_timm_backbone": True, "backbone": "resnet18", "use_pretrained_backbone": True},
        {"configuration_files": ["config.9.9.9.json"]},
        {"num_labels": 10**9},
        {"to_dict": 1, "get_text_config": "x"},
    ],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.parametrize("kind", ["encoder", "uni"])
def test_what_leads_elsewhere_has_no_effect(checkpoints, tmp_path, monkeypatch, kind, fields):
    folder = Path(shutil.copytree(checkpoints[kind], tmp_path / kind))
    expected = scores(folder)
    table = json.loads((folder / "config.json").read_text())
    table.update(fields)
    table.get("encoder_config", {}).update(fields)
    (folder / "config.json").write_text(json.dumps(table))
    forbid_fetching(monkeypatch)
    assert (scores(folder) == expected).all()


def scores(folder):
    return Engine(load_model(str(folder), device="cpu")).logits(TEXTS, LABELS)


def forbid_fetching(monkeypatch):
    def fetch(*arguments, **_):
        raise AssertionError(f"asked the hub for {arguments}")

    for name in ("snapshot_download", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, fetch)
    monkeypatch.setattr("transformers.utils.hub.cached_files", fetch)
    monkeypatch.setattr("transformers.utils.hub.resolve_revision", fetch, raising=False)


@pytest.mark.parametrize("kind", ["encoder", "uni"])
def test_an_adapter_is_refused_and_its_base_is_not_fetched(
    checkpoints, tmp_path, monkeypatch, kind
):
    folder = Path(shutil.copytree(checkpoints[kind], tmp_path / kind))
    text = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "somebody/else"})
    (folder / "adapter_config.json").write_text(text)
    forbid_fetching(monkeypatch)
    with pytest.raises(ValueError, match="adapter"):
        load_model(str(folder), device="cpu")
    if kind == "uni":
        with pytest.raises(ValueError, match="adapter"):
            GLiClassModel.from_pretrained(folder)


def test_quantised_weights_are_refused(checkpoints, tmp_path):
    folder = Path(shutil.copytree(checkpoints["encoder"], tmp_path / "encoder"))
    change_json(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(ValueError, match="quantization_config"):
        load_model(str(folder), device="cpu")


def test_a_label_tokenizer_is_the_one_file_from_elsewhere(checkpoints, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(checkpoints["apart"], tmp_path / "apart"))
    shutil.rmtree(folder / "label_tokenizer")
    elsewhere = tmp_path / "hub" / "tokenizer.json"
    elsewhere.parent.mkdir()
    shutil.copy(folder / "tokenizer.json", elsewhere)
    change_json(folder / "config.json", label_model_name="somebody/labels")
    forbid_fetching(monkeypatch)
    asked = []

    def fetch(*arguments, **_):
        asked.append(arguments)
        return str(elsewhere)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    load_model(str(folder), device="cpu")
    assert asked == [("somebody/labels", "tokenizer.json")]


@pytest.mark.parametrize("name", ["encoder_model_name", "label_model_name"])
def test_no_folder_that_a_configuration_names_is_read(checkpoints, tmp_path, monkeypatch, name):
    folder = Path(shutil.copytree(checkpoints["apart"], tmp_path / "apart"))
    other = Path(shutil.copytree(checkpoints["uni"], tmp_path / "other"))
    for path in other.iterdir():
        path.write_bytes(b"not to be read")
    shutil.rmtree(folder / "label_tokenizer")
    change_json(folder / "config.json", **{name: str(other)})
    load_model(str(folder), device="cpu")


def test_the_torch_model_takes_no_argument_that_runs_code(checkpoints):
    with pytest.raises(ValueError, match="never run"):
        GLiClassModel.from_pretrained(checkpoints["uni"], trust_remote_code=True)
    with pytest.raises(ValueError, match="safetensors"):
        GLiClassModel.from_pretrained(checkpoints["uni"], use_safetensors=False)


def test_every_loader_of_transformers_is_told_to_run_no_code():
    """Calls of ``from_pretrained`` that get a name, and of ``from_config``."""
    package = Path(skgliclass.__file__).parent
    places = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in ("from_pretrained", "from_config"):
                continue
            refused = any(
                keyword.arg == "trust_remote_code"
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value is False
                for keyword in node.keywords
            )
            first = node.args[0] if node.args else None
            nameless = isinstance(first, ast.Constant) and first.value is None
            if not (refused or nameless):
                places.append(f"{path.relative_to(package).as_posix()}: {ast.unparse(node)}")
    # Our own classes, whose roads end at those that refuse, and an embedding of torch.
    own = ("cli/", "modeling/bert.py")
    assert not [place for place in places if not place.startswith(own)]
    source = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    assert "trust_remote_code=True" not in source
