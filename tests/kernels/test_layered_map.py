"""The layered map against the dictionary that it stands for, over random changes and all its older versions."""

from __future__ import annotations

import random

import pytest

from kernels.layered_map import RECENT_MAX, LayeredMap


@pytest.mark.parametrize("seed", range(8))
def test_every_version_stays_the_dictionary_that_it_was(seed: int) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}")
    plain: dict[str, int] = {f"k{k}": k for k in range(rng.choice((0, 3, 300)))}
    layered = LayeredMap(plain)
    versions = [(dict(plain), layered)]
    for step in range(6 * RECENT_MAX):
        key = f"k{rng.randrange(400)}"
        if rng.random() < 0.4 and plain:
            key = next(iter(plain)) if rng.random() < 0.5 else rng.choice(list(plain))
            plain = {name: value for name, value in plain.items() if name != key}
            layered = layered.drop(key)
        else:
            plain = {**plain, key: step}
            layered = layered.put(key, step)
        assert len(layered) == len(plain)
        assert (key in layered, layered.get(key), layered.get(key, -1)) == (
            key in plain,
            plain.get(key),
            plain.get(key, -1),
        )
        if rng.random() < 0.2:
            assert list(layered.oldest()) == list(plain.items())
        if rng.random() < 0.05:
            assert list(layered) == list(plain)
        versions.append((plain, layered))
    for expected, version in versions:
        assert list(version.oldest()) == list(expected.items())
        assert list(version.items()) == list(expected.items())
        assert version == expected
        assert expected == version
        assert version == LayeredMap(expected)
        assert len(version) == len(expected)


def test_what_is_not_there_is_a_key_error() -> None:
    layered = LayeredMap({"a": 1}).put("b", 2).drop("a")
    for key in ("a", "c"):
        with pytest.raises(KeyError):
            layered.drop(key)
        with pytest.raises(KeyError):
            layered[key]
    assert layered["b"] == 2


def test_a_map_made_of_a_map_is_that_map() -> None:
    layered = LayeredMap({"a": 1})
    assert LayeredMap.of(layered) is layered
    assert LayeredMap.of({"a": 1}) == layered


def test_a_false_value_is_a_value() -> None:
    layered = LayeredMap({"a": 1}).put("a", 0).put("b", 0)
    assert (layered.get("a", 5), layered["a"], layered.get("b", 5)) == (0, 0, 0)
