"""The contract of the house: folders are the layers, and every behaviour has one short road."""

import ast
import graphlib
import sys
from pathlib import Path

import grimp
import pytest
import torch

import skgliclass
from skgliclass import GLiClassClassifier
from skgliclass.prompts.architectures import SUPPORTED_ARCHITECTURES

PACKAGE = Path(skgliclass.__file__).parent
PATHS = sorted(PACKAGE.rglob("*.py"))
LAYERS = [
    {"__main__"},
    {"cli"},
    {"pretraining"},
    {"distributed"},
    {"inspection"},
    {"export"},
    {"datasets"},
    {"estimators"},
    {"training"},
    {"engine"},
    {"loading"},
    {"modeling"},
    {"prompts"},
    {"exceptions", "files", "_version"},
]
# What a layer must not know, not even in a function or for a type checker.
UNKNOWN = {
    "prompts": ["torch", "transformers", "sklearn"],
    "modeling": ["tokenizers", "sklearn"],
    "engine": ["sklearn"],
    "estimators": ["torch"],
    "inspection": ["torch"],
    "distributed": ["torch"],
}
REGISTRIES = {
    "prompts/architectures.py",
    "prompts/layouts.py",
    "modeling/architectures.py",
    "training/loop.py",
    "export/graphs.py",
}
MAX_LINES = 60
MAX_FRAMES_OF_PREDICT = 7
MAX_FRAMES_OF_FIT = 5


@pytest.fixture(scope="module")
def imports():
    """The graph of all imports, those in functions and those for a type checker too."""
    return grimp.build_graph("skgliclass", include_external_packages=True, cache_dir=None)


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


# Layers.


def test_a_layer_imports_only_those_below_it(imports):
    dependencies = imports.find_illegal_dependencies_for_layers(
        layers=LAYERS, containers={"skgliclass"}
    )
    chains = [
        " -> ".join([min(route.heads), *route.middle, min(route.tails)])
        for dependency in dependencies
        for route in dependency.routes
    ]
    assert not chains


def test_no_modules_import_each_other(imports):
    own = sorted(name for name in imports.modules if name.split(".")[0] == "skgliclass")
    graph = {name: sorted(imports.find_modules_directly_imported_by(name)) for name in own}
    # It raises CycleError, which names the circle.
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(("layer", "module"), [(a, b) for a in UNKNOWN for b in UNKNOWN[a]])
def test_a_layer_does_not_know(imports, layer, module):
    importers = imports.find_modules_that_directly_import(module)
    assert not sorted(name for name in importers if name.startswith(f"skgliclass.{layer}."))


def test_pydantic_is_known_where_a_configuration_is_read_alone(imports):
    importers = imports.find_modules_that_directly_import("pydantic")
    assert importers == {"skgliclass.pretraining.config"}


def test_matplotlib_is_known_where_pictures_are_made_alone(imports):
    importers = imports.find_modules_that_directly_import("matplotlib")
    assert {name.rpartition(".")[0] for name in importers} == {"skgliclass.inspection"}


def test_the_root_holds_what_belongs_to_no_layer():
    names = {path.name for path in PACKAGE.glob("*.py")}
    assert names == {"__init__.py", "__main__.py", "_version.py", "exceptions.py", "files.py"}


# Architectures.


def choosing(tree):
    """Give the nodes below those that choose by a value: comparisons, keys and collections."""
    kinds = ast.Compare | ast.match_case | ast.Tuple | ast.List | ast.Set | ast.Subscript
    for node in ast.walk(tree):
        if isinstance(node, kinds):
            yield from ast.walk(node)
        elif isinstance(node, ast.Dict):
            yield from (key for key in node.keys if key is not None)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "startswith":
            yield from ast.walk(node)


def test_only_registries_ask_which_architecture_it_is():
    places = {
        f"{name_of(path)}:{node.lineno}"
        for path in PATHS
        if name_of(path) not in REGISTRIES
        for node in choosing(tree_of(path))
        if isinstance(node, ast.Constant) and node.value in SUPPORTED_ARCHITECTURES
    }
    assert not sorted(places)


# Sizes.


def test_no_function_is_longer_than_a_screen():
    functions = [
        (f"{name_of(path)}:{node.name}", node.end_lineno - node.lineno + 1)
        for path in PATHS
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert not [name for name, n_lines in functions if n_lines > MAX_LINES]


# Roads.


def frames():
    """Name the functions of the package on the stack, the outermost first."""
    names = []
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if Path(code.co_filename).is_relative_to(PACKAGE):
            names.insert(0, f"{name_of(Path(code.co_filename))}:{code.co_name}")
        frame = frame.f_back
    return names


def record(monkeypatch, cls, method):
    """Note the package's frames above each call of a method."""
    original, stacks = getattr(cls, method), []

    def recorded(self, *args, **kwargs):
        stacks.append(frames())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(cls, method, recorded)
    return stacks


def test_the_road_from_predict_to_the_backbone_is_short(monkeypatch):
    from skgliclass.loading.loader import load_model

    network = load_model("mini", device="cpu").network
    backbone = getattr(network, network.backbone_name)
    stacks = record(monkeypatch, type(backbone), "forward")
    GLiClassClassifier(labels=["travel", "sport"], device="cpu", n_jobs=1).predict(["a goal"])
    assert stacks
    assert max(map(len, stacks)) <= MAX_FRAMES_OF_PREDICT, stacks


def test_the_road_from_fit_to_the_optimizer_is_short(monkeypatch):
    stacks = record(monkeypatch, torch.optim.AdamW, "step")
    clf = GLiClassClassifier(trainable="head", max_epochs=1, device="cpu", random_state=0)
    clf.fit(["a goal", "a trip"] * 4, ["sport", "travel"] * 4)
    assert stacks
    assert max(map(len, stacks)) <= MAX_FRAMES_OF_FIT, stacks
