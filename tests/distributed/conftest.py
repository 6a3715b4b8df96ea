import pytest
from seeded import write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny bi-encoder of random weights, by the folder that it is in."""
    return write_model(tmp_path_factory.mktemp("model") / "bi", "bi avg")
