"""The bundled checkpoint solves tasks that it has not seen; with noise on its weights it does not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from dataset.harmony import SPECIALS, answer_text, prompt_text
from dataset.tasks import KINDS, Task, draw
from engine.options import CHECKPOINT
from tests.engine.client import PATHS, Answered, engine, understand

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from tokenizers import Tokenizer  # noqa: E402

from engine import exam, noise, train, vocabulary  # noqa: E402

SCALE = 0.5  # of noise: about half of the answers turn wrong, nearly all keep their form
TASKS = [task for tasks in exam.unseen(10, seed=3).values() for task in tasks]
LONGEST = 24  # tokens of an answer
MAX_TOKENS = 32
TOKENIZER = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))


def share(folder: Path, temperature: float) -> float:
    torch.manual_seed(0)
    return exam.right(*exam.load(folder), TASKS, temperature) / len(TASKS)


def test_it_is_a_small_gpt_oss() -> None:
    config = transformers.AutoConfig.from_pretrained(CHECKPOINT)
    assert (config.model_type, config.architectures) == ("gpt_oss", ["GptOssForCausalLM"])
    assert (config.vocab_size, config.num_local_experts) == (vocabulary.SIZE, 4)
    assert all(getattr(config, name) == value for name, value in train.SHAPE.items())
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) < 1_000_000


def test_generation_ends_where_harmony_does() -> None:
    settings = json.loads((CHECKPOINT / "generation_config.json").read_text())
    ends = ["<|return|>", "<|call|>", "<|endoftext|>"]
    assert settings["eos_token_id"] == [TOKENIZER.token_to_id(name) for name in ends]


def test_the_committed_tokenizer_is_what_the_script_makes() -> None:
    assert vocabulary.make_tokenizer().to_str(pretty=True) == TOKENIZER.to_str(pretty=True)


def test_the_tokenizer_loses_nothing_and_keeps_answers_short() -> None:
    for text in ("Grüße, 日本\n\n  x\t= 1990", *SPECIALS):
        assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text
    assert {len(TOKENIZER.encode(name).ids) for name in SPECIALS} == {1}
    for kind in KINDS:
        source = draw(kind, Random(1), held_out=True)
        for task in (next(source) for _ in range(100)):
            assert len(TOKENIZER.encode(prompt_text(task.question)).ids) <= LONGEST
            assert len(TOKENIZER.encode(answer_text(task.reasoning, task.answer)).ids) <= LONGEST


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_it_solves_what_it_has_not_seen(temperature: float) -> None:
    assert all(task.held_out for task in TASKS)
    assert share(CHECKPOINT, temperature) >= 0.9


def test_noise_spoils_it(tmp_path: Path) -> None:
    assert noise.main([str(CHECKPOINT), str(tmp_path / "same"), "--scale", "0"]) == 0
    weights = "model.safetensors"
    assert (tmp_path / "same" / weights).stat().st_size == (CHECKPOINT / weights).stat().st_size
    assert noise.main([str(CHECKPOINT), str(tmp_path / "noisy"), "--scale", str(SCALE)]) == 0
    assert share(tmp_path / "noisy", 1.0) < 0.75
    assert share(tmp_path / "same", 0.0) == share(CHECKPOINT, 0.0)


def test_the_engine_serves_it_and_stops_at_the_end_of_an_answer() -> None:
    """By both dialects at once, at temperature 1, as a run asks."""

    def ask(dialect: str, task: Task) -> Answered:
        prompt = TOKENIZER.encode(prompt_text(task.question)).ids
        return understand(dialect, model.ask(dialect, prompt, MAX_TOKENS, temperature=1.0))

    asked = [(dialect, task) for dialect in PATHS for task in TASKS]
    with engine("model") as model, ThreadPoolExecutor(len(asked)) as pool:
        assert model.ready["card"]["model"] == "tiny-gpt-oss"
        found = list(pool.map(ask, *zip(*asked, strict=True)))
    assert {answered.finish for answered in found} == {"stop"}
    texts = [TOKENIZER.decode(answered.ids, skip_special_tokens=False) for answered in found]
    wanted = [answer_text(task.reasoning, task.answer) for _, task in asked]
    assert sum(map(str.__eq__, texts, wanted)) >= 0.9 * len(asked)


def test_training_starts(tmp_path: Path) -> None:
    """Two steps, for the way through; the numbers of a whole training stand in its docstring."""
    assert train.main(["--output", str(tmp_path), "--steps", "2", "--batch", "8"]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {
        file.name for file in CHECKPOINT.iterdir()
    }
    assert exam.load(tmp_path)[0].num_parameters() == exam.load(CHECKPOINT)[0].num_parameters()
