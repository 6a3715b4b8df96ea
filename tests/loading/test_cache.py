"""What a process keeps in memory, and for how long."""

import gc
import threading
import weakref

import pytest

from skgliclass.loading.cache import ModelCache, RecentlyUsed


class User:
    """Someone who uses a model; all are equal and none can be hashed, as estimators may be."""

    __hash__ = None

    def __eq__(self, other):
        return isinstance(other, User)


class Model:
    pass


def is_kept(cache, key):
    def load():
        raise LookupError

    try:
        cache.get(key, load)
    except LookupError:
        return False
    return True


def test_a_model_is_loaded_once():
    cache, loads = ModelCache(), []

    def load():
        loads.append(1)
        return Model()

    assert cache.get("a", load) is cache.get("a", load)
    assert len(loads) == 1


def test_the_models_used_last_are_kept():
    cache = ModelCache(n_kept=2)
    for key in "abac":
        cache.get(key, Model)
    assert [key for key in "abc" if is_kept(cache, key)] == ["a", "c"]


def test_a_model_stays_as_long_as_its_user_lives():
    cache, user, other = ModelCache(n_kept=1), User(), User()
    cache.get("a", Model, user)
    cache.get("b", Model, other)
    cache.get("c", Model)
    assert [key for key in "abc" if is_kept(cache, key)] == ["a", "b", "c"]
    del other
    gc.collect()
    cache.get("d", Model)
    assert [key for key in "abcd" if is_kept(cache, key)] == ["a", "d"]


def test_a_user_has_one_model_in_each_role():
    cache, user = ModelCache(n_kept=1), User()
    cache.get("a", Model, user, "model")
    cache.get("b", Model, user, "shortlist")
    cache.get("c", Model, user, "model")
    assert [key for key in "abc" if is_kept(cache, key)] == ["b", "c"]


def test_users_are_not_kept_alive():
    cache, user = ModelCache(), User()
    cache.get("a", Model, user)
    reference = weakref.ref(user)
    del user
    assert reference() is None


def test_who_finds_a_model_does_not_wait_for_another_to_load():
    cache, may_end, began = ModelCache(), threading.Event(), threading.Event()
    cache.get("here", Model)

    def load():
        began.set()
        assert may_end.wait(10)
        return Model()

    thread = threading.Thread(target=cache.get, args=("slow", load))
    thread.start()
    assert began.wait(10)
    assert is_kept(cache, "here")
    may_end.set()
    thread.join()
    assert is_kept(cache, "slow")


def test_a_load_that_fails_leaves_nothing_behind():
    cache = ModelCache()
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0)
    model = Model()
    assert cache.get("a", lambda: model) is model


def test_what_was_prepared_last_is_kept():
    values = RecentlyUsed(n_kept=2)
    for key in "ab":
        values.keep(key, key.upper())
    # Asked for again, so that the other one makes room.
    assert values.find("a") == "A"
    values.keep("c", "C")
    assert [values.find(key) for key in "abc"] == ["A", None, "C"]
