#!/usr/bin/env bash
# Installs the harness into .venv: pinned versions with hashes, never a CUDA package. The stamp is
# removed before anything changes and written at the end: a .venv without one is made anew.
set -euo pipefail
unset PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE
export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# uv brings its own certificates; behind a company's proxy only the system's know it, as for pip.
[[ ! -s /etc/ssl/certs/ca-certificates.crt ]] || export UV_SYSTEM_CERTS=1
engines=(embedded none)

usage() {
    cat <<END
Usage: ./setup.sh [--competition] [--dev] [--engine NAME] [--python PATH] [--dry-run]

Makes .venv and installs the versions pinned in requirements/ into it. Run again, it returns at once
when nothing has changed, and repairs what was interrupted.

  --competition  also the leaderboard and plots
  --dev          also the tools for tests and checks; implies --competition
  --engine NAME  one of: ${engines[*]}
                 embedded (default): the small CPU engine, so transformers and a CPU build of torch
                 none: the client alone, for engines that run elsewhere
  --python PATH  the Python to use, 3.11 or newer (default: python3, python3.13, 3.12 or 3.11)
  --dry-run      say what would be done

Exit codes: 0 installed, 2 wrong arguments, 3 something is missing; the message says what to do.
END
}
say() { printf 'setup.sh: %s\n' "$1"; }
die() { local code=$1; shift; printf 'setup.sh: %s\n' "$@" >&2; exit "$code"; }

# "3.11 /usr/bin/python3.11" of a command, nothing where it is older or missing. The base
# executable, because python3 may be the very .venv that is about to be made anew.
identify() {
    "$1" -c 'import sys; v = sys.version_info
if v >= (3, 11): print("%d.%d" % v[:2], sys._base_executable)' 2>/dev/null || true
}
find_python() { # the first that LoadGen has wheels for
    local name found
    for name in python3 python3.13 python3.12 python3.11; do
        found=$(identify "$name")
        if [[ $found == 3.1[123]\ * ]]; then echo "$found" && return; fi
    done
    die 3 "no Python 3.11 to 3.13 on PATH; python3 is: $(python3 --version 2>&1 || true)" \
        'remedy: install one (Debian 12: apt-get install python3), or ./setup.sh --python PATH'
}
need_ensurepip() { # Debian keeps it in a package of its own
    local package="python$version-venv" has=("$python" -c 'import ensurepip, venv')
    "${has[@]}" 2>/dev/null && return
    if [[ $EUID == 0 && $python == /usr/bin/* ]] && command -v apt-get >/dev/null; then
        say "Installing Debian's $package ..."
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update && apt-get install -y "$package"; } </dev/null >/dev/null || true
        "${has[@]}" 2>/dev/null && return
    fi
    die 3 "$python cannot make a virtual environment: it has no ensurepip" \
        "remedy: sudo apt-get update && sudo apt-get install $package, then ./setup.sh again"
}
# No bytecode for thousands of modules that nobody loads: the last check compiles those in use.
install() { .venv/bin/python -m pip -qq install --no-compile --no-deps "$@"; }
# torch is in no lock: of one version, the CPU index and the default index hold different files, so
# different hashes. fast-deps: the question costs 2 MB also where the index serves no metadata.
install_torch() {
    say "Installing $torch (CPU build) ..."
    if install --dry-run --ignore-installed --use-feature=fast-deps --report - "$torch" \
        2>/dev/null |
        .venv/bin/python -c 'import json, re, sys
torch = json.load(sys.stdin)["install"][0]["metadata"]
cuda = [need for need in torch["requires_dist"] if re.match("nvidia|cuda|triton", need)]
variant = torch["version"].partition("+")[2]
sys.exit(variant != "cpu" and bool(variant or cuda))' 2>/dev/null; then
        install "$torch"
    else
        .venv/bin/uv pip install -q --python .venv/bin/python --torch-backend cpu --no-deps "$torch"
    fi
}
stamp_of() { echo "$1 $torch $(sha256sum <"requirements/$1.txt")"; }

competition='' dev='' engine=embedded found='' dry=''
while (($#)); do
    case $1 in
        --competition) competition=competition ;;
        --dev) competition=competition dev=dev ;;
        --dry-run) dry=yes ;;
        --engine) engine=${2:-} && shift ;;
        --python)
            found=$(identify "${2:-}") && shift
            [[ -n $found ]] || die 2 "--python ${1:-}: no Python 3.11 or newer" ;;
        -h | --help) usage && exit ;;
        *) die 2 "unknown argument '$1'" \
            'allowed: --competition --dev --engine --python --dry-run --help' ;;
    esac
    shift || true
done
extras=(${competition:+competition} ${dev:+dev})
case $engine in
    embedded) parts=(base embedded "${extras[@]}") ;;
    none) parts=(base "${extras[@]}") ;;
    *) die 2 "unknown engine '$engine'; allowed: ${engines[*]}" ;;
esac
cd -- "$(dirname -- "$(readlink -f -- "$0")")"
torch=$(sed -n '/^embedded = /,/\]/s/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
have=$(identify .venv/bin/python)
found=${found:-${have:-$(find_python)}}
version=${found%% *} python=${found#* }
stamp=.venv/setup.stamp made="python $version in $PWD" stale=()
grep -qsxF -- "$made" "$stamp" && [[ ${have%% *} == "$version" ]] || stale=(venv)
for part in "${parts[@]}"; do grep -qsxF "$(stamp_of "$part")" "$stamp" || stale+=("$part"); done
((${#stale[@]})) || { say ".venv is up to date (${parts[*]})" && exit; }
locks=("${parts[@]/#/requirements/}") && locks=("${locks[@]/%/.txt}")
count=$(sed -n 's/^\([a-z0-9-]*\)==.*/\1/p' "${locks[@]}" | sort -u | wc -l)
count+=" packages (${parts[*]})"
[[ -z $dry ]] || { say "would install $count into .venv with $python ($version)" && exit; }

trap 'die 130 "interrupted; run it again to finish"' INT TERM
if [[ ${stale[0]} == venv ]]; then
    need_ensurepip
    say "Making .venv with $python ($version) ..."
    rm -f "$stamp"
    "$python" -m venv --clear .venv || die 3 "$python could not make .venv (see above)"
fi
say "Installing $count ..."
rm -f "$stamp"
{ install --require-hashes -r requirements/pip.txt &&
    install --require-hashes "${locks[@]/#/--requirement=}"; } ||
    die 3 'pip could not install the pinned packages; its message stands above' \
        "remedy: check the network; behind a mirror: export PIP_INDEX_URL=ADDRESS" \
        "$(uname -m): what has no wheel for it needs apt-get install g++ python$version-dev"
check='import mlperf_loadgen, numpy, orjson, pyarrow.parquet, uvloop, yaml'
[[ -z $competition ]] || check+='; import gradio, matplotlib.pyplot, plotly.graph_objects'
if [[ $engine == embedded ]] && install_torch; then
    check+='; import torch; from transformers import AutoModelForCausalLM, GptOssForCausalLM'
elif [[ $engine == embedded ]]; then
    parts=(base "${extras[@]}") # no stamp for the embedded part: the next run tries again
    cat >&2 <<END
setup.sh: WARNING: the embedded engine is not available: no CPU build of $torch could be had.
  pip's index offers none, and the PyTorch project's own CPU index could not be used (see above).
  All else works, against SGLang or vLLM servers. For the embedded engine, either
    - let this machine reach that index (HTTPS_PROXY), then run ./setup.sh again; or
    - put a CPU wheel of it into a folder:  PIP_FIND_LINKS=/folder ./setup.sh
  Without the engine, and without this warning:  ./setup.sh --engine none
END
fi
say 'Checking that all can be imported ...'
.venv/bin/python -c "$check" || die 3 'installed, but cannot be imported (see above)'
{ echo "$made" && for part in "${parts[@]}"; do stamp_of "$part"; done; } >"$stamp"
say "Ready: .venv with Python $version (${parts[*]})"
