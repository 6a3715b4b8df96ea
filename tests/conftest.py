import gc
import os
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

# Before anything imports torch or numpy, which read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Pictures are drawn without a screen.
os.environ["MPLBACKEND"] = "agg"
# A second thread costs tiny models more than it gives, and the cores have a process each.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

if find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings
    from hypothesis.configuration import set_hypothesis_home_dir

    # What it keeps from run to run is no part of the tree.
    set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "skgliclass-hypothesis")
    # The time that a case takes depends on the machine, and what is drawn must not.
    settings.register_profile(
        "quick",
        max_examples=15,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    settings.register_profile("thorough", settings.get_profile("quick"), max_examples=200)
    # Other cases in every run; what fails is printed so that it can be run again.
    settings.register_profile(
        "many",
        settings.get_profile("quick"),
        max_examples=5000,
        derandomize=False,
        print_blob=True,
    )
    settings.load_profile("quick")

# Where a shell starts the tests in the background, they and what they start ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nobody pulls the plug while tests run, and waiting for the disc would take a tenth of their time.
os.fsync = lambda descriptor: None

# The imports of a collection make millions of objects that stay: looking through them for
# garbage, again and again while they come, takes a fourth of its time.
gc.disable()


def pytest_addoption(parser):
    parser.addoption("--device", help="the device that tests/test_gpu.py compares with the CPU")


def pytest_configure(config):
    """Hide GPUs: what most tests hold is promised of float32 on a CPU."""
    if not config.getoption("--device"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_finish():
    """Collect garbage again, but not among what was imported."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Skip what needs an extra that is not installed, before its fixtures are made."""
    for mark in item.iter_markers("needs"):
        for module in mark.args:
            # The folder tests/datasets goes by the name of a library, but has no origin.
            if getattr(find_spec(module), "origin", None) is None:
                pytest.skip(f"needs {module}")


@pytest.fixture(scope="session")
def seeded_models(tmp_path_factory):
    """Load models of tests/seeded.py by their names, each once a session."""
    from seeded import MODELS, numbered_words, write_model
    from tiny import wrapped_tokenizer

    from skgliclass.loading.loader import load_model

    loaded = {}

    def get(name, words="real"):
        if (name, words) not in loaded:
            tokenizer = wrapped_tokenizer(MODELS[name][0]) if words == "real" else numbered_words()
            folder = tmp_path_factory.mktemp("seeded")
            loaded[name, words] = load_model(write_model(folder, name, tokenizer))
        return loaded[name, words]

    return get
