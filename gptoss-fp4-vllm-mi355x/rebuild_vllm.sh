#!/usr/bin/env bash
# Step 4 of the quick start guide, in the container: vLLM compiled again after edits of C++ or HIP.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=/dev/null
source "$here/../competition/shell/steps.sh"
vllm=/workspace/vllm full=''

usage() {
    cat <<END
Usage: rebuild_vllm.sh [--full] [--vllm DIR] [--dry-run]

Compiles vLLM in DIR (default: $vllm) again. Needed after edits of C++, CUDA or HIP only: edits of
Python take effect when the server is started again.

  --full     also removes vllm.egg-info, and cleans up before it compiles
  --dry-run  print the steps, take none

Exit codes: 2 wrong arguments, 3 DIR is not vLLM's; else the failed step's.
END
}

while (($#)); do
    case $1 in
    -h | --help) usage && exit ;;
    --full) full=yes ;;
    --dry-run) dry=yes ;;
    --vllm) vllm=$(value_of "$@") && shift ;;
    *) die 2 "$1: unknown; see --help" ;;
    esac
    shift
done
# Folders of DIR are removed below.
[[ $dry || -f $vllm/setup.py && -f $vllm/vllm/__init__.py ]] || die 3 "$vllm is not vLLM's source" \
    'remedy: --vllm DIR'

say 'edits of Python need no rebuild: start the server again'
step cd "$vllm"
step rm -rf build
[[ ! $full ]] || step rm -rf vllm.egg-info
step python3 -m pip uninstall -y vllm
[[ ! $full ]] || step python3 setup.py clean
# Without it all of ROCm's targets are compiled; a new shell has lost what install_vllm.sh set.
step export PYTORCH_ROCM_ARCH="${PYTORCH_ROCM_ARCH:-gfx942;gfx950}"
step env VLLM_TARGET_DEVICE=rocm python3 setup.py develop
