import pytest
from seeded import write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny bi-encoder of random weights, by the folder that it is in."""
    return write_model(tmp_path_factory.mktemp("model") / "bi", "bi avg")


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A home for all tests: Ray writes a token into it, and looks for it there ever after."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield
