"""The first stage's accuracy test: perplexity on WikiText-2, by the text and tokenizers at hand.

The measurement itself is `accuracy.perplexity`'s. Here is what it needs: the text, Llama-2's
tokenizer for the task's pieces (LLAMA2_TOKENIZER; gated, so it may be missing), and the served
model's tokenizer, which must be the right one: with another the figure would be of other prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from accuracy.perplexity import IN_FLIGHT, Perplexity, conclude, measure_perplexity
from accuracy.perplexity_pieces import (
    BYTES_PER_WORD,
    Piece,
    pieces_by_bytes,
    pieces_by_tokens,
    read_text,
)
from accuracy.perplexity_tokens import Served, load_served, load_tokenizer
from backends.engines import Engines
from competition.measured import TENTHS, Measured, Progress
from competition.payload import ACCURACIES
from competition.profile import Profile
from competition.texts import find_wikitext, wikitext_sha256
from core.errors import ConfigError, SetupError

FILE = "tokenizer.json"
METRICS = ACCURACIES["perplexity"]
LLAMA2_VOCABULARY = 32_000


def measure(
    profile: Profile, engines: Engines, environ: Mapping[str, str], say: Callable[[str], None]
) -> Measured:
    """Raises RunError when one answer is missing or wrong, ConfigError, SetupError."""
    path = find_wikitext(environ)
    text, digest = read_text(path), wikitext_sha256(path)
    llama = environ.get("LLAMA2_TOKENIZER")
    tokenizer = find_tokenizer(profile, environ)
    served = load_served(tokenizer)
    pieces = _cut(text, Path(llama)) if llama else pieces_by_bytes(text)
    say(f"perplexity: {len(pieces)} pieces of {path}, {IN_FLIGHT} requests at once")
    found = _in_turns(engines, pieces, served, Progress("perplexity: pieces", len(pieces), say))
    known = digest == profile.accuracy.text_sha256
    return Measured(
        metrics={name: getattr(found, name) for name in METRICS},
        notes=tuple(_notes(profile, engines, found, known)),
        details={
            "whole": True,
            "comparable": known,
            "text": str(path),
            "text_sha256": digest,
            "tokenizer": str(tokenizer or "gpt-oss's own vocabulary"),
            "piece_tokenizer": llama,
            "derived": found.derived,
            "n_pieces": found.n_pieces,
            "n_bytes": found.n_bytes,
            "n_tokens": found.n_tokens,
            "total_logprob": found.total_logprob,
        },
    )


def _cut(text: str, llama: Path) -> list[Piece]:
    """The task's pieces. Raises ConfigError for another tokenizer: its words are other words."""
    tokenizer = load_tokenizer(llama)
    size = tokenizer.get_vocab_size(with_added_tokens=False)
    if size != LLAMA2_VOCABULARY:
        raise ConfigError(
            f"LLAMA2_TOKENIZER {llama}: has a vocabulary of {size}, Llama-2's has "
            f"{LLAMA2_VOCABULARY}: name the folder of Llama-2's tokenizer.json, or unset it, and "
            "word_perplexity is derived"
        )
    return pieces_by_tokens(text, tokenizer)


def _in_turns(
    engines: Engines, pieces: list[Piece], served: Served, progress: Progress
) -> Perplexity:
    """Part after part, each on the next replica, so that none goes unmeasured."""
    size = max(1, len(pieces) // max(TENTHS, len(engines.infos)))
    totals: list[float] = []
    n_tokens = 0
    for i, start in enumerate(range(0, len(pieces), size)):
        part, info = pieces[start : start + size], engines.infos[i % len(engines.infos)]
        found = measure_perplexity(info, part, served)
        totals.append(found.total_logprob)
        n_tokens += found.n_tokens
        progress.add(len(part))
    return conclude(math.fsum(totals), pieces, n_tokens)


def _notes(
    profile: Profile, engines: Engines, found: Perplexity, known_text: bool
) -> Iterator[str]:
    accuracy = profile.accuracy
    if not known_text:
        yield "the text is not the baselines' one (wiki.test.raw of WikiText-2): not comparable"
    if found.derived:
        yield (
            f"word_perplexity is derived, byte_perplexity ** {BYTES_PER_WORD}, and so is what its "
            "threshold is worth: name Llama-2's tokenizer in LLAMA2_TOKENIZER to measure it"
        )
    for name, baseline in accuracy.baselines.items():
        if (value := getattr(found, name)) < baseline * (2 - accuracy.multiplier):
            yield (
                f"{name} {value:.4f} is more than {percent(accuracy.multiplier)} % below its "
                f"baseline {baseline:.4f}: a sign of a changed protocol; check text and tokenizer"
            )
    if len(engines.infos) > 1:
        yield f"the {len(engines.infos)} replicas took turns: each measured a part of the text"


def percent(multiplier: float) -> str:
    """3 of 1.03."""
    return f"{(multiplier - 1) * 100:g}"


def find_tokenizer(profile: Profile, environ: Mapping[str, str]) -> Path | None:
    """The served model's, a folder or file; None: gpt-oss's own vocabulary. Raises SetupError."""
    if named := environ.get("TOKENIZER"):
        return Path(named)
    model = environ.get("MODEL") or profile.model
    for folder in (Path(model), *_snapshots(model, environ)):
        if (folder / FILE).is_file():
            return folder
    if "gpt-oss" in profile.model.lower():
        return None
    raise SetupError(
        f"no tokenizer of {model}: name its folder, or its {FILE} beside its config, in TOKENIZER"
    )


def _snapshots(model: str, environ: Mapping[str, str]) -> Iterator[Path]:
    """Of the model in the Hugging Face cache: the one that `main` is, then the others."""
    home = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    hub = environ.get("HF_HUB_CACHE") or (
        Path(environ.get("HF_HOME") or Path(home) / "huggingface") / "hub"
    )
    folder = Path(hub) / f"models--{model.replace('/', '--')}"
    main = folder / "refs" / "main"
    if main.is_file():
        yield folder / "snapshots" / main.read_text(encoding="utf-8").strip()
    yield from sorted(folder.glob("snapshots/*"))
