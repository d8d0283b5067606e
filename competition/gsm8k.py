"""The second stage's accuracy test: GSM8K by completion, as lm-evaluation-harness's `gsm8k` asks it.

The original runs `lm_eval --model local-completions --tasks gsm8k --num_fewshot 3` with prompts as
text, and takes the first figure of the table's first row: exact_match, flexible-extract (the last
number of an answer). That one is the gate; strict-match is told beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accuracy.perplexity_client import map_in_flight
from backends.engines import Engines
from backends.info import EngineInfo
from backends.pages import fetch
from competition.gsm8k_task import (
    SEED,
    SHOTS,
    WHOLE,
    Question,
    flexible_extract,
    prompts,
    read_questions,
    same,
    strict_match,
)
from competition.measured import Measured, Progress
from competition.profile import Profile
from competition.texts import find_gsm8k, find_gsm8k_train
from core.errors import ConfigError, RunError

IN_FLIGHT = 65
TIMEOUT_S = 300.0
SAMPLING = {
    "max_tokens": 256,
    "temperature": 0.0,
    "stop": ["Question:", "</s>", "<|im_end|>"],
    "seed": SEED,
    "stream": False,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What an engine said to one question."""

    text: str
    cut: bool  # it ran into max_tokens


@dataclass(frozen=True, slots=True)
class Exam:
    """What is asked, and in what it is not the original's test."""

    source: Path
    questions: Sequence[Question]
    examples: Sequence[Question]
    whole: bool
    notes: tuple[str, ...]


def measure(
    profile: Profile, engines: Engines, environ: Mapping[str, str], say: Callable[[str], None]
) -> Measured:
    """Raises RunError when a request fails, ConfigError, SetupError."""
    exam = set_exam(environ)
    n = len(exam.questions)
    say(f"gsm8k: {n} questions of {exam.source}, {IN_FLIGHT} requests at once")
    replies = _ask(engines, list(prompts(exam.questions, exam.examples)), say)
    flexible = _share(flexible_extract, replies, exam.questions)
    return Measured(
        metrics={"gsm8k_metric": flexible},
        notes=exam.notes,
        details={
            "whole": exam.whole,
            "comparable": not exam.notes,
            "text": str(exam.source),
            "n_questions": n,
            "flexible_extract": flexible,
            "strict_match": _share(strict_match, replies, exam.questions),
            "standard_error": math.sqrt(flexible * (1 - flexible) / max(n - 1, 1)),
            "n_cut": sum(reply.cut for reply in replies),
        },
    )


def set_exam(environ: Mapping[str, str]) -> Exam:
    """By the files at hand and GSM8K_LIMIT. Raises ConfigError, SetupError."""
    source, training = find_gsm8k(environ), find_gsm8k_train(environ)
    questions, notes = read_questions(source), []
    if len(questions) != WHOLE:
        notes.append(f"{source} has {len(questions)} questions, not {WHOLE}: not comparable")
    if training is None:
        examples, questions = questions[:SHOTS], questions[SHOTS:]
        what = f"the examples are the first {SHOTS} questions of the test, which are not scored"
        notes.append(f"{what}: not comparable; name the training split in GSM8K_TRAIN")
    else:
        examples = read_questions(training)
    if len(examples) < SHOTS or not questions:
        what = f"{len(examples)} examples and {len(questions)} questions"
        raise ConfigError(f"{source}: {what}; give {SHOTS} examples and a question at least")
    asked = questions[: _limit(environ)]
    whole = len(asked) == len(questions)
    if not whole:
        notes.append(f"GSM8K_LIMIT: {len(asked)} of {len(questions)} questions: not comparable")
    return Exam(source, asked, examples, whole, tuple(notes))


def _share(
    extract: Callable[[str], str | None], replies: Sequence[Reply], questions: Sequence[Question]
) -> float:
    pairs = zip(replies, questions, strict=True)
    return sum(same(extract(reply.text), q.answer) for reply, q in pairs) / len(questions)


def _limit(environ: Mapping[str, str]) -> int | None:
    text = environ.get("GSM8K_LIMIT")
    if text and not (text.isdecimal() and int(text)):
        raise ConfigError(f"GSM8K_LIMIT {text}: not a number of questions from 1")
    return int(text) if text else None


def _ask(engines: Engines, texts: Sequence[str], say: Callable[[str], None]) -> list[Reply]:
    """All replies; the replicas take turns. After a failure no more are sent."""
    failures: list[str] = []
    progress = Progress("gsm8k: answers", len(texts), say)

    def ask(number: int) -> Reply | None:
        if failures:
            return None
        try:
            reply = _complete(engines.infos[number % len(engines.infos)], texts[number])
        except RunError as error:
            failures.append(f"question {number + 1}: {error}")
            return None
        progress.add()
        return reply

    replies = map_in_flight(ask, range(len(texts)), IN_FLIGHT)
    if failures:
        what = f"{len(failures)} of {len(texts)} requests failed, {progress.done} succeeded"
        unsent = "the others were not sent, and nothing is scored"
        raise RunError(f"gsm8k: {what}, {unsent}; the first failure: {failures[0]}")
    return [reply for reply in replies if reply is not None]


def _complete(info: EngineInfo, text: str) -> Reply:
    url = f"{info.url}/v1/completions"
    body = {"model": info.model or "default", "prompt": text, **SAMPLING}
    try:
        status, page = fetch(url, TIMEOUT_S, "POST", json.dumps(body).encode())
    except OSError as error:
        what = f"no answer ({getattr(error, 'reason', None) or error!r})"
        raise RunError(f"{url}: {what}; look into the engine's log") from None
    if status != 200:
        raise RunError(f"{url}: HTTP {status}: {page[:500].decode(errors='replace')}")
    try:
        choice = json.loads(page)["choices"][0]
        reply = Reply(choice["text"], choice.get("finish_reason") == "length")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(f"{url}: its answer is no completion ({error!r})") from None
    if not isinstance(reply.text, str):
        raise RunError(f"{url}: its answer has no text ({reply.text!r}); is it an OpenAI endpoint?")
    return reply
