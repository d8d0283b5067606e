"""vLLM's own offline benchmark with its engine kept between turns; a script for the engine's Python.

What `vllm bench throughput` does (vllm/benchmarks/throughput.py): one `LLM`, all prompts given to one
call of `generate`, and that call timed. The command line is the API server's, read by the server's own
parser, so that both engines have the same settings. Nothing of the harness is imported, as the
engine's Python has none of it, and what stands here runs on Python 3.10.

JSON lines. Out, once: {ready_s, version, ignored, max_num_seqs, max_num_batched_tokens}. In, for each
turn: {prompts: a file with a list of lists of ids, max_tokens, temperature, ignore_eos, detokenize,
singly: whether each prompt waits for the answer to the one before}. Out: {seconds, requests,
prompt_tokens, output_tokens, cpu_s}. The end of stdin ends it; an exception is told as {error} and
gives exit code 1.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

# The server's parser, in vLLM 0.32 and in 0.26.
PARSERS = "vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args"
TICKS_S = os.sysconf("SC_CLK_TCK")
LONGEST_ERROR = 2_000  # characters; the log has all of it


def main() -> None:
    if Path(sys.path[0]) == Path(__file__).parent:
        del sys.path[0]  # its modules are none of the engine's
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM writes to stdout, too
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # as vLLM's commands do
    try:
        serve(sys.argv[1:], told)
    except BaseException as error:
        tell(told, {"error": f"{type(error).__name__}: {error}"[:LONGEST_ERROR]})
        raise


def serve(flags: list[str], told: TextIO) -> None:
    start = time.perf_counter()
    vllm: Any = importlib.import_module("vllm")
    settings, ignored = engine_args(vllm, flags)
    llm = vllm.LLM.from_engine_args(settings)
    ready = {"ready_s": time.perf_counter() - start, "version": vllm.__version__}
    tell(told, ready | {"ignored": ignored} | in_force(llm.llm_engine.vllm_config.scheduler_config))
    for line in sys.stdin:
        tell(told, generate(vllm, llm, json.loads(line)))
    llm.llm_engine.engine_core.shutdown()


def engine_args(vllm: Any, flags: list[str]) -> tuple[Any, list[str]]:
    """The server's settings for the engine, and the flags that only a server has."""
    parser = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    server_parser().make_arg_parser(parser)
    args = parser.parse_args(flags)
    if args.model_tag is not None:  # `vllm serve MODEL`
        args.model = args.model_tag
    settings = vllm.EngineArgs.from_cli_args(args)
    known = {field.name for field in dataclasses.fields(settings)} | {"model_tag"}
    told = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    # Left open, these would be other ones than a server's: vLLM has defaults for each of the two.
    server = importlib.import_module("vllm.usage.usage_lib").UsageContext.OPENAI_API_SERVER
    config = copy.deepcopy(settings).create_engine_config(server)
    vars(settings).update(in_force(config.scheduler_config))
    return settings, sorted(told - known)


def server_parser() -> Any:
    newer, older = PARSERS
    try:
        return importlib.import_module(newer)
    except ModuleNotFoundError:
        return importlib.import_module(older)


def in_force(scheduler: Any) -> dict[str, int]:
    names = ("max_num_seqs", "max_num_batched_tokens")
    return {name: getattr(scheduler, name) for name in names}


def generate(vllm: Any, llm: Any, ask: dict[str, Any]) -> dict[str, Any]:
    """One turn, timed as `vllm bench throughput` times it; `singly`: one prompt after another."""
    ids = json.loads(Path(ask["prompts"]).read_text())
    prompts = [{"prompt_token_ids": prompt} for prompt in ids]
    names = ("max_tokens", "temperature", "ignore_eos", "detokenize")
    sampling = {name: ask[name] for name in names}
    params = [vllm.SamplingParams(top_p=1.0, **sampling) for _ in prompts]
    cpu_s, start = session_cpu_s(), time.perf_counter()
    if ask["singly"]:
        pairs = zip(prompts, params, strict=True)
        answers = [llm.generate([one], [its], use_tqdm=False)[0] for one, its in pairs]
    else:
        answers = llm.generate(prompts, params, use_tqdm=True)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "requests": len(answers),
        "prompt_tokens": sum(len(answer.prompt_token_ids) for answer in answers),
        "output_tokens": sum(len(part.token_ids) for answer in answers for part in answer.outputs),
        "cpu_s": session_cpu_s() - cpu_s,
    }


def session_cpu_s() -> float:
    """CPU seconds of all processes of this session: the engine's core is one of its own."""
    ticks, session = 0, str(os.getsid(0))
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if fields[3] == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_S


def tell(told: TextIO, what: dict[str, Any]) -> None:
    told.write(json.dumps(what) + "\n")
    told.flush()


if __name__ == "__main__":
    main()
