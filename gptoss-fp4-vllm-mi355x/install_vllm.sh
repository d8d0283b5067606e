#!/usr/bin/env bash
# Step 3 of the quick start guide, in the container: AITER and vLLM from /workspace, editable.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=/dev/null
source "$here/../competition/shell/steps.sh"
workspace=/workspace

usage() {
    cat <<END
Usage: install_vllm.sh [--workspace DIR] [--dry-run]

Replaces the container's AITER and vLLM with those of DIR/aiter and DIR/vllm (default: $workspace),
so that edits there take effect, and checks the result. Takes a while: vLLM is compiled.

  --dry-run  print the steps, take none

pip may say "ERROR: pip's dependency resolver does not ..." about transformers and huggingface-hub:
that is a warning and may be passed over. A step that fails ends the script.
Exit codes: 2 wrong arguments, 3 something is missing or the check failed; else the failed step's.
END
}

while (($#)); do
    case $1 in
    -h | --help) usage && exit ;;
    --dry-run) dry=yes && shift && continue ;;
    --workspace) workspace=$(value_of "$@") ;;
    *) die 2 "$1: unknown; see --help" ;;
    esac
    shift 2
done
aiter=$workspace/aiter vllm=$workspace/vllm
pip=(python3 -m pip) # that of the Python which runs setup.py below
for folder in "$aiter" "$vllm"; do
    [[ $dry || -f $folder/setup.py ]] || die 3 "$folder/setup.py is not there" \
        'remedy: prepare_workdir.sh on the host, then launch_container.sh'
done

step "${pip[@]}" uninstall -y aiter amd-aiter vllm # AITER has had both names
step cd "$aiter"
step python3 setup.py develop
step cd "$vllm"
step "${pip[@]}" install --upgrade pip
step "${pip[@]}" install --upgrade numba scipy 'huggingface-hub[cli,hf_transfer]' setuptools_scm
step "${pip[@]}" install 'numpy<2'
step "${pip[@]}" install -r requirements/rocm.txt
step export PYTORCH_ROCM_ARCH="${PYTORCH_ROCM_ARCH:-gfx942;gfx950}"
step python3 setup.py develop
[[ ! $dry ]] || exit 0

cd / # the folder one stands in would hide what is installed
file=$(python3 -c 'import vllm; print(vllm.__file__)')
[[ $file == "$vllm/vllm/__init__.py" ]] || die 3 "vllm is $file, not $vllm/vllm/__init__.py" \
    "remedy: ${pip[*]} uninstall -y vllm, then this again"
numpy=$(python3 -c 'import numpy; print(numpy.__version__)')
[[ ${numpy%%.*} -lt 2 ]] || die 3 "numpy is $numpy" "remedy: ${pip[*]} install 'numpy<2'"
found=$("${pip[@]}" list | grep aiter) || die 3 'pip lists no aiter' "remedy: look at $aiter's output"
[[ $found == *"$aiter"* ]] || die 3 "not editable, or of another folder: $found" \
    "remedy: ${pip[*]} uninstall -y aiter amd-aiter, then this again"
printf '%s\n' "vllm: $file" "numpy: $numpy" "$found"
