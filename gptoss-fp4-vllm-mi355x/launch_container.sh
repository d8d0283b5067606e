#!/usr/bin/env bash
# Step 2 of the quick start guide: the development container, with the guide's own flags.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
root=$(dirname -- "$here")
# shellcheck source=/dev/null
source "$root/competition/shell/steps.sh"
name=vllm-dev engine=docker workdir=$HOME/competition hf_cache=/nfsdata/hf_hub_cache-1/
image=rocm/7.0:rocm7.0_ubuntu_22.04_vllm_0.10.1_instinct_20250927_rc1

usage() {
    cat <<END
Usage: HF_TOKEN=... launch_container.sh [flags]

Starts the development container and a shell in it. The token is taken from the environment and
stands in no command line.

  --name NAME        default: $name
  --workdir DIR      mounted as /workspace, with vllm/ and aiter/ (default: $workdir)
  --hf-cache DIR     Hugging Face's cache on the host (default: $hf_cache)
  --image IMAGE      default: $image
  --engine PROGRAM   docker (default) or podman
  --dry-run          print the command, start nothing

Another window: docker exec -ti $name bash. Once it has ended: docker start -ai $name.
Exit codes: 2 wrong arguments, 3 something is missing; else the container's own.
END
}

while (($#)); do
    case $1 in
    -h | --help) usage && exit ;;
    --dry-run) dry=yes && shift && continue ;;
    --name) name=$(value_of "$@") ;;
    --workdir) workdir=$(value_of "$@") ;;
    --hf-cache) hf_cache=$(value_of "$@") ;;
    --image) image=$(value_of "$@") ;;
    --engine) engine=$(value_of "$@") ;;
    *) die 2 "$1: unknown; see --help" ;;
    esac
    shift 2
done
[[ $engine == docker || $engine == podman ]] || die 2 "--engine $engine: it is docker or podman"
workdir=$(readlink -m -- "$workdir")

need() { # LINE...: a dry run may be for another machine
    if [[ $dry ]]; then say "$1"; else die 3 "$@"; fi
}
command -v "$engine" >/dev/null || need "$engine is not on PATH" \
    'remedy: install it, or --engine podman'
for part in vllm aiter; do # a container engine would make an empty folder instead
    [[ -d $workdir/$part ]] || need "$workdir/$part is not there" \
        "remedy: $here/prepare_workdir.sh $workdir"
done
[[ -d $hf_cache ]] || say "WARNING: $hf_cache is not there and starts empty; see --hf-cache"
[[ ${HF_TOKEN:-} ]] || say 'WARNING: HF_TOKEN is not set: gated models and tokenizers will be refused'

shm=(--shm-size=16g) # podman refuses a size for a /dev/shm that is the host's; docker ignores it
[[ $engine == docker ]] || shm=()
command=("$engine" run -it
    --name "$name"
    --ipc=host "${shm[@]}" --network=host
    --privileged --cap-add=CAP_SYS_ADMIN
    --device=/dev/kfd --device=/dev/dri --device=/dev/mem
    --cap-add=SYS_PTRACE --security-opt seccomp=unconfined
    -v "$hf_cache:/root/.cache/huggingface"
    -v "$workdir:/workspace"
    -v "$workdir/aiter:/workspace/aiter"
    -v "$workdir/vllm:/workspace/vllm")
# Where the guide has these scripts; from elsewhere they are mounted there.
scripts=amdgpu_inferencemax_bounty
[[ $workdir/$scripts -ef $root && ! -L $workdir/$scripts ]] || command+=(-v "$root:/workspace/$scripts")
# By its name alone, so that its value stands in no list of processes.
command+=(-e HF_TOKEN "$image" /bin/bash)
step "${command[@]}"
