#!/usr/bin/env bash
# Starts vLLM with the competition's settings, in the foreground; --help says more.
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../competition/shell/python.sh"
run_launch --profile gptoss-fp4-vllm-mi355x "$@"
