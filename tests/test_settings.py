"""Configurations from files: nothing is guessed, dropped or rounded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.errors import UserError
from sonoformer.settings import build, plain, read_yaml, to_yaml


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise UserError(f"rate: must be at least 0; got {self.rate}")


@dataclass(frozen=True)
class Outer:
    steps: int = 10
    name: str = "x"
    fast: bool = False
    size: tuple[int, int] = (1, 2)
    many: tuple[float, ...] = ()
    limit: float | None = None
    channel: int | Literal["mix"] = "mix"
    out: Path = Path("runs")
    inner: Inner = Inner()


outers = st.builds(
    Outer,
    steps=st.integers(-(10**6), 10**6),
    name=st.text(max_size=20),
    fast=st.booleans(),
    size=st.tuples(st.integers(), st.integers()),
    many=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(tuple),
    limit=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    channel=st.integers(0, 9) | st.just("mix"),
    inner=st.builds(Inner, rate=st.floats(0, 1e300), kind=st.sampled_from(["a", "b"])),
)


@given(outers)
def test_yaml_and_back_is_the_same(config: Outer) -> None:
    assert build(Outer, yaml.safe_load(to_yaml(config)), "x.yaml") == config
    assert build(Outer, plain(config), "x.yaml") == config


def test_absent_options_keep_their_defaults_and_integers_become_floats() -> None:
    config = build(Outer, {"limit": 3, "inner": {"rate": 1}}, "x.yaml")
    assert config == Outer(limit=3.0, inner=Inner(rate=1.0))
    assert isinstance(config.limit, float)


def test_exponents_that_yaml_reads_as_text_are_numbers() -> None:
    assert build(Outer, yaml.safe_load("limit: 1e-4"), "x.yaml").limit == 1e-4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stpes": 1}, ["stpes", "'steps'"]),
        ({"inner": {"rat": 1}}, ["inner.rat", "'rate'"]),
        ({"steps": 2.5}, ["steps", "int", "2.5"]),
        ({"steps": True}, ["steps", "int"]),
        ({"steps": None}, ["steps", "int"]),
        ({"steps": "3"}, ["steps", "int"]),
        ({"fast": 1}, ["fast", "bool"]),
        ({"name": 3}, ["name", "str"]),
        ({"limit": True}, ["limit", "float"]),
        ({"limit": "much"}, ["limit", "much"]),
        ({"size": [1]}, ["size", "2 values", "got 1"]),
        ({"size": [1, 2.5]}, ["size[1]", "int"]),
        ({"size": 3}, ["size", "3"]),
        ({"many": "12"}, ["many"]),
        ({"channel": "left"}, ["channel", "mix", "left"]),
        ({"inner": {"kind": "c"}}, ["inner.kind", "a, b", "'c'"]),
        ({"inner": {"rate": -1}}, ["rate: must be at least 0"]),
        ({"inner": 3}, ["inner", "mapping"]),
        ({"inner": None}, ["inner", "mapping"]),
        ({3: 1}, ["unknown option '3'"]),
    ],
)
def test_mistakes_are_named_with_their_file(given: dict[Any, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        build(Outer, given, "recipe.yaml")
    message = str(caught.value)
    assert message.startswith("recipe.yaml: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize("value", [float("nan"), "nan", "NaN"])
def test_no_number_is_no_number(value: float | str) -> None:
    with pytest.raises(UserError, match="limit"):
        build(Outer, {"limit": value}, "x.yaml")


@pytest.mark.parametrize("given", [[1, 2], "steps", None, 3])
def test_only_a_mapping_is_a_configuration(given: Any) -> None:
    with pytest.raises(UserError, match=r"x\.yaml: the top level"):
        build(Outer, given, "x.yaml")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"a: [1", "cannot be read as YAML"),
        (b"- 1\n- 2\n", "holds a list"),
        (b"\xff\xfe\x00", "cannot be read as YAML"),
        (b"a: !!python/object/apply:os.system ['exit 1']\n", "cannot be read as YAML"),
        (b"[" * 5000, "cannot be read as YAML"),
    ],
)
def test_broken_yaml_is_a_sentence(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(UserError, match=word) as caught:
        read_yaml(tmp_path / "r.yaml")
    assert "\n" not in str(caught.value)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("# nothing yet\n")
    assert read_yaml(tmp_path / "r.yaml") == {}
