"""What makes an architecture different stands in registries, and none of them lacks one."""

from skgliclass.export.graphs import GRAPHS
from skgliclass.modeling.architectures import ARCHITECTURES
from skgliclass.prompts.architectures import SUPPORTED_ARCHITECTURES


def test_every_architecture_is_in_every_registry():
    assert tuple(ARCHITECTURES) == SUPPORTED_ARCHITECTURES
    assert tuple(GRAPHS) == SUPPORTED_ARCHITECTURES


def test_an_architecture_is_found_by_its_own_name():
    assert all(kind.name == name for name, kind in ARCHITECTURES.items())
