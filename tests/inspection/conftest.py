import pytest


@pytest.fixture(autouse=True)
def pictures():
    """Close what was drawn."""
    plt = pytest.importorskip("matplotlib.pyplot")
    yield
    plt.close("all")
