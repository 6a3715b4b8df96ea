"""Random damage to checkpoints: whatever it is, loading ends soon, and with numbers or an error.

``HOSTILE_CASES=5000 HOSTILE_SEED=7 pytest -m slow tests/loading/test_hostile_fuzz.py`` tries more.
"""

import json
import os
import random
import shutil
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hostile import LABELS, TEXTS, header_of, make_checkpoints

from skgliclass.engine.engine import Engine
from skgliclass.loading import loader
from skgliclass.loading.cache import ModelCache
from skgliclass.loading.loader import load_model

pytestmark = pytest.mark.slow

N_CASES = int(os.environ.get("HOSTILE_CASES", "150"))
SEED = int(os.environ.get("HOSTILE_SEED", "0"))
SECONDS = 2.0
MEMORY = 200e6
KINDS = ["encoder", "sentences", "uni", "bi", "apart"]
VALUES = [
    None, True, False, 0, 1, -1, 2, 3, 7, 10**3, 10**6, 10**9, 10**12, 10**30, -(10**9), 0.0, -0.5,
    1.5, 1e308, float("nan"), float("inf"), "", "x", "../x", "/etc/passwd", "org/name", [], [1], {},
    {"a": 1}, [[]], "gelu", "float16", "bert", "GLiClass",
]  # fmt: skip


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


def places(value, path=()):
    """Give the ways to all values of a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, dict | list):
        for key, below in list(items)[:200]:
            yield from places(below, (*path, key))


def change_field(path, rng):
    """Set, drop or add a field of a JSON file, or swap two of its values."""
    table = json.loads(path.read_text())
    ways = [way for way in places(table) if way]
    way, other = rng.choice(ways), rng.choice(ways)
    inner = table
    for key in way[:-1]:
        inner = inner[key]
    action = rng.choice(["set", "set", "set", "drop", "swap", "wrap"])
    if action == "drop":
        del inner[way[-1]]
    elif action == "swap":
        value = table
        for key in other:
            value = value[key]
        inner[way[-1]] = json.loads(json.dumps(value))
    elif action == "wrap":
        inner[way[-1]] = [inner[way[-1]]]
    else:
        inner[way[-1]] = rng.choice(VALUES)
    path.write_text(json.dumps(table))
    return f"{action} {way} in {path.name}"


def change_bytes(path, rng):
    """Flip, cut, repeat or insert bytes."""
    content = bytearray(path.read_bytes())
    action = rng.choice(["flip", "flip", "cut", "repeat", "insert"])
    # The beginning says what the rest means.
    end = min(len(content), rng.choice([64, 2000, len(content)]))
    at = rng.randrange(max(1, end))
    if action == "flip":
        for _ in range(rng.choice([1, 3, 50])):
            if content:
                content[rng.randrange(max(1, end))] = rng.randrange(256)
    elif action == "cut":
        del content[at:]
    elif action == "repeat":
        content[at:at] = content[at : at + 100]
    else:
        content[at:at] = rng.randbytes(rng.choice([1, 8, 1000]))
    path.write_bytes(bytes(content))
    return f"{action} at {at} in {path.name}"


def change_header(path, rng):
    """Change what a safetensors file says of a tensor."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = header_of(path)
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    name = rng.choice(["dtype", "shape", "data_offsets"])
    values = {
        "dtype": ["F64", "F16", "BF16", "F8_E4M3", "I64", "BOOL", "x", 1, None],
        "shape": [[], [0], [-1], [2**40], entry["shape"][::-1], "x", None],
        "data_offsets": [[0, 0], [4, 0], [0, 2**40], [-1, 3], "x", None],
    }
    entry[name] = rng.choice(values[name])
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])
    return f"{name} = {entry[name]} in {path.name}"


def damage(folder, rng):
    """Do one to three things to the files of a folder."""
    done = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        path = rng.choice(sorted(p for p in folder.rglob("*") if p.suffix in (".json", SAFE)))
        change = rng.choice([change_bytes, change_header if path.suffix == SAFE else change_field])
        try:
            done.append(change(path, rng))
        except (ValueError, LookupError, TypeError, AttributeError, struct.error):
            # Damaged so much already that nothing in it can be found.
            done.append(change_bytes(path, rng))
    return done


SAFE = ".safetensors"


def peak_memory():
    resource = pytest.importorskip("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@pytest.mark.parametrize("kind", KINDS)
def test_random_damage(checkpoints, tmp_path, monkeypatch, kind):
    rng = random.Random(f"{SEED} {kind}")
    monkeypatch.setattr(loader, "MODELS", ModelCache(0))
    Engine(load_model(str(checkpoints[kind]), device="cpu")).logits(TEXTS, LABELS)
    n_loaded = 0
    for case in range(N_CASES):
        folder = Path(shutil.copytree(checkpoints[kind], tmp_path / "case"))
        done = damage(folder, rng)
        memory, start = peak_memory(), time.process_time()
        try:
            scores = Engine(load_model(str(folder), device="cpu")).logits(TEXTS, LABELS)
        except (ValueError, OSError, NotImplementedError) as error:
            message = str(error)
        except BaseException as error:
            raise AssertionError(f"case {case}: {done}: {error!r}") from error
        else:
            message, n_loaded = str(folder), n_loaded + 1
            assert np.isfinite(scores).all(), f"case {case}: {done}"
        assert str(folder) in message or "is not supported" in message, f"case {case}: {done}"
        assert time.process_time() - start < SECONDS, f"case {case}: {done}"
        assert peak_memory() - memory < MEMORY, f"case {case}: {done}"
        shutil.rmtree(folder)
    # Damage that does not matter is no reason to refuse, and most of it does.
    assert 0 < n_loaded < N_CASES
