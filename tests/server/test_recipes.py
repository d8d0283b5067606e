"""recipes.toml and variables.toml: every entry says where it comes from; the right one is chosen."""

from __future__ import annotations

import re
import tomllib

import pytest

from core.errors import SetupError
from server import recipes, variables
from server.engines import OURS
from server.options import ENGINES, PLATFORMS
from server.recipes import Recipe, choose, parse_version, without

KEYS = {
    *("name", "engine", "platform", "gpus", "since", "before", "source", "date", "warning"),
    *("stream_interval", "flags", "env"),
}


@pytest.mark.parametrize("recipe", recipes.recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_is_whole(recipe: Recipe) -> None:
    assert recipe.engine in ENGINES and recipe.platform in PLATFORMS
    assert re.match(r"https://\S+", recipe.source)
    assert re.fullmatch(r"20\d\d-\d\d", recipe.date)
    for flag in recipe.flags:
        name, is_set, value = flag.partition("=")
        assert name.startswith("-") and " " not in flag and bool(is_set) == bool(value)
        assert name.lstrip("-") not in OURS
    for name, value in recipe.env:
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+", name) and value
        assert "VISIBLE_DEVICES" not in name


def test_names_are_unique_and_no_key_is_misspelt() -> None:
    entries = tomllib.loads(recipes.FILE.read_text())["recipe"]
    assert all(set(entry) <= KEYS for entry in entries)
    assert len({entry["name"] for entry in entries}) == len(entries)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("version", [None, "0.5.21", "0.10.1", "0.32.0"])
def test_every_engine_has_one_on_every_platform(
    engine: str, platform: str, version: str | None
) -> None:
    assert choose(engine, version, platform, None).gpus == ()


@pytest.mark.parametrize(
    ("engine", "version", "platform", "gpu", "name"),
    [
        ("vllm", "0.32.0", "rocm", "AMD Instinct MI355X", "vllm-mi355x"),
        ("vllm", "0.22.1.dev0+rocm720", "rocm", "gfx950", "vllm-mi355x"),
        ("vllm", "0.23.0", "rocm", "MI355X", "vllm-mi355x-0.23"),
        ("vllm", "0.10.1", "rocm", "MI355X", "vllm-mi355x-0.10"),
        ("vllm", "0.12.0", "rocm", "MI355X", "vllm-rocm"),
        ("vllm", None, "rocm", "MI300X", "vllm-mi300x"),
        ("vllm", "0.26.0", "cuda", "NVIDIA H200 NVL", "vllm-h200"),
        ("vllm", "0.12.0", "cuda", "NVIDIA H200", "vllm-h200-0.12"),
        ("vllm", "0.22.0", "cuda", "NVIDIA B200", "vllm-b200-0.22"),
        ("vllm", "0.23", "cuda", "NVIDIA B200", "vllm-b200"),
        ("vllm", None, "cuda", "NVIDIA L4", "vllm-cuda"),
        ("vllm", "0.32.0", "cpu", None, "vllm-cpu"),
        ("sglang", "0.5.21", "rocm", "MI355X", "sglang-mi355x"),
        ("sglang", "0.5.21", "rocm", "MI300X", "sglang-rocm"),
        ("sglang", "0.5.21", "cuda", "NVIDIA H200", "sglang-cuda"),
    ],
)
def test_the_choice(
    engine: str, version: str | None, platform: str, gpu: str | None, name: str
) -> None:
    assert choose(engine, version, platform, gpu).name == name


def test_there_is_none() -> None:
    with pytest.raises(SetupError, match="no recipe for tensorrt"):
        choose("tensorrt", "1", "cuda", None)


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.22.1.dev0+rocm", (0, 22, 1)), ("v0.5.12-rocm720", (0, 5, 12)), ("", ()), ("main", ())],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_overridden_flags_go() -> None:
    flags = ["--block-size=64", "--no-enable-prefix-caching", "-cc.x=1", "--max-num-seqs=5"]
    own = ["--block_size", "-1", "--enable-prefix-caching", "-cc.x=2", "max-num-seqs"]
    assert without(flags, own) == ["--max-num-seqs=5"]


def test_variables_say_where_they_come_from() -> None:
    for name, entry in variables.changed().items():
        assert name.startswith(("VLLM_", "SGLANG_"))
        assert entry["source"] and re.fullmatch(r"20\d\d-\d\d", entry["date"])
        assert "since" in entry or "before" in entry


def test_no_recipe_sets_a_variable_that_its_versions_have_lost() -> None:
    for recipe in recipes.recipes():
        for name, _ in recipe.env:
            before = variables.changed().get(name, {}).get("before")
            if before:
                assert recipe.before and parse_version(recipe.before) <= parse_version(before)
