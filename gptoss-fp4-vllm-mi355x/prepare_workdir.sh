#!/usr/bin/env bash
# Step 1 of the quick start guide, on the host: the folder with vLLM and AITER.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=/dev/null
source "$here/../competition/shell/steps.sh"

usage() {
    cat <<END
Usage: prepare_workdir.sh [DIR] [--dry-run]

Clones vLLM and AITER into DIR (default: ~/competition) and says which commits these are. What is
there already is left as it is; a clone that was interrupted is begun again.

  --dry-run  say what would be done

Exit codes: 0 done, 2 wrong arguments, 3 something is missing; else git's own.
END
}

workdir=''
while (($#)); do
    case $1 in
    -h | --help) usage && exit ;;
    --dry-run) dry=yes ;;
    -*) die 2 "$1: unknown; see --help" ;;
    *) [[ ! $workdir ]] || die 2 "$1: one folder is enough; it is $workdir"; workdir=$1 ;;
    esac
    shift
done
workdir=${workdir:-$HOME/competition}
command -v git >/dev/null || die 3 'git is not on PATH' 'remedy: apt-get install git'

fetch() { # FOLDER ADDRESS FLAG...
    if [[ -e $1 && ! -e $1/.git ]]; then
        die 3 "$1 is there and no git clone" 'remedy: move it away, or give another DIR'
    fi
    # Into another name first: a folder of the right name is then a whole clone.
    [[ ! -e $1 ]] || return 0
    step rm -rf "$1.part"
    step git clone "${@:3}" "$2" "$1.part"
    step mv "$1.part" "$1"
}

step mkdir -p "$workdir"
fetch "$workdir/vllm" https://github.com/vllm-project/vllm.git
fetch "$workdir/aiter" https://github.com/ROCm/aiter.git --recursive
for clone in "$workdir/vllm" "$workdir/aiter"; do
    [[ $dry ]] || echo "$clone: $(git -C "$clone" log -1 --format='%H %cs %s')"
done
say "next: $here/launch_container.sh --workdir $workdir"
