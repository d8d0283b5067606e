#!/usr/bin/env bash
# Puts an engine's container image on this machine as an enroot sandbox, once, and runs commands in it.
# shellcheck disable=SC2034,SC2154 # the sourced parts read what is set here, and the reverse
set -euo pipefail
shopt -s extglob nullglob
root=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
for part in competition/shell/steps cluster/shell/{image_name,squash,sandbox,container_command}; do
    # shellcheck source=/dev/null
    source "$root/$part.sh"
done
dry='' image='' name='' engine='' platform='' gpu='' squash='' alone='' squash_dir='' lock_timeout=3600
print='' force='' import_only='' devices=auto
command=() mounts=() variables=() wanted_mounts=() wanted_variables=() start=()

usage() {
    cat <<END
Usage: setup_enroot.sh [flags] [-- COMMAND...]

Imports an image, unpacks it into a sandbox and runs COMMAND in it. What is there already is used.
Only COMMAND writes to stdout.

  --docker_image IMAGE  lmsysorg/sglang:TAG, nvcr.io/nvidia/NAME:TAG, NAME@sha256:..., docker://...,
                        dockerd://... (this machine's docker)
  --engine ENGINE       instead: the image of sglang (default) or vllm in cluster/images.txt
  --platform PLATFORM   rocm or cuda (default: what is found here)
  --gpu GPU             such as MI355X (default: what is found here)
  --sandbox_name NAME   default: the image's name, with _ for / : @ #
  --squash_dir DIR      where .sqsh files lie (default: squash/ in enroot's cache)
  --squash FILE         this .sqsh file, made if it is not there; without --docker_image, --engine
                        and --gpu it is taken as it is
  --import_only         no sandbox; prints the .sqsh file's path
  --force               import and unpack anew
  --lock_timeout S      how long to wait for another run that does the same (default: $lock_timeout)
  --mount SRC:DST[:FLAGS]  may be repeated
  --env NAME[=VALUE]    may be repeated; a NAME that is not set is not passed. Always passed when set:
                        ${passed[*]:0:3} ${passed[*]:3:1}
                        ${passed[*]:4:2} ${passed[*]:6}
                        SLURM_* VLLM_* SGLANG_* HSA_* NCCL_* RCCL_*
  --devices WHEN        mount /dev/kfd and /dev/dri: auto (default; where ENROOT_RESTRICT_DEV hides
                        them), always or never
  --print docker|podman print that program's command for the same container, do nothing
  --dry_run             print the commands, change nothing

Flags may be spelt with hyphens.
Exit codes: 2 wrong arguments, 3 something is missing or failed; else COMMAND's own.
END
}

one_of() { # FLAG VALUE ALLOWED...
    local allowed
    for allowed in "${@:3}"; do [[ $2 != "$allowed" ]] || return 0; done
    die 2 "$1 $2: it is one of: ${*:3}"
}

while (($#)); do
    flag=${1//-/_}
    case $flag in
    _h | __help) usage && exit ;;
    __dry_run) dry=yes && shift && continue ;;
    __force) force=yes && shift && continue ;;
    __import_only) import_only=yes && shift && continue ;;
    __)
        command=("${@:2}")
        (($# > 1)) || die 2 '--: the command is missing'
        break
        ;;
    esac
    value=${2-}
    case $flag in
    __docker_image) image=$value ;;
    __sandbox_name) name=$value ;;
    __engine) one_of "$1" "$value" sglang vllm && engine=$value ;;
    __platform) one_of "$1" "$value" rocm cuda && platform=$value ;;
    __gpu) gpu=$value ;;
    __squash_dir) squash_dir=$value ;;
    __squash) squash=$value ;;
    __lock_timeout) lock_timeout=$value ;;
    __mount) wanted_mounts+=("$value") ;;
    __env) wanted_variables+=("$value") ;;
    __devices) one_of "$1" "$value" auto always never && devices=$value ;;
    __print) one_of "$1" "$value" docker podman && print=$value ;;
    *) die 2 "$1: unknown; see --help" ;;
    esac
    [[ $value && $value != --* ]] || die 2 "$1: its value is missing; see --help"
    shift 2
done
[[ ! $image || ! $engine$gpu ]] || die 2 '--docker_image names the image: no --engine, no --gpu'
[[ ! $squash || ! $squash_dir ]] || die 2 '--squash names the file: no --squash_dir'
# An invalid file is replaced, which no other file shall ever be.
[[ ! $squash || $squash == *.@(sqsh|sqfs|squashfs) ]] || die 2 "--squash $squash: it ends in .sqsh"
[[ $lock_timeout =~ ^[0-9]+$ ]] || die 2 "--lock_timeout $lock_timeout: it is a number of seconds"
[[ ! $import_only || ! $print${command[*]} ]] || die 2 '--import_only: no --print, no COMMAND'

platform=${platform:-$(find_platform)}
if [[ $squash && ! $image$engine$gpu$print ]]; then
    alone=yes
    words=$(name_file "$(readlink -m -- "$squash")")
elif [[ ! $image ]]; then
    [[ $platform ]] || die 3 'no GPU is found here: which image is it to be?' \
        'remedy: --platform rocm or --platform cuda (with --engine, --gpu), or --docker_image IMAGE'
    image=$(image_of "$root/cluster/images.txt" "${engine:-sglang}" "$platform" \
        "${gpu:-$(find_gpu "$platform")}")
fi
[[ $alone ]] || words=$(name_image "$image")
read -r uri plain label <<<"$words"
name=${name:-$label}
[[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] ||
    die 2 "--sandbox_name $name: letters, digits, and after the first also . _ -"
for one in "${wanted_mounts[@]}"; do add_mount "$one"; done
for one in "${wanted_variables[@]}"; do add_variable "$one"; done
if [[ $print ]]; then
    [[ $platform ]] || die 3 'no GPU is found here' 'remedy: --platform rocm or --platform cuda'
    print_command "$print" && exit
fi

if ! command -v enroot >/dev/null; then
    message=('enroot is not on PATH' 'remedy: load its module or install it; or --print docker')
    if [[ $dry ]]; then say "${message[0]}"; else die 3 "${message[@]}"; fi
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/enroot
squash=${squash:-${squash_dir:-$(setting ENROOT_CACHE_PATH "$cache")/squash}/$label.sqsh}
squash=$(readlink -m -- "$squash")
data=$(setting ENROOT_DATA_PATH "${XDG_DATA_HOME:-$HOME/.local/share}/enroot")
export ENROOT_DATA_PATH=$data # the folder looked into here is the one that enroot uses
# Compute nodes often lack the folder in which enroot would put a container's mounts.
if [[ ! $(setting ENROOT_RUNTIME_PATH '') && ! -w ${XDG_RUNTIME_DIR:-} ]]; then
    export ENROOT_RUNTIME_PATH=${TMPDIR:-/tmp}/enroot-runtime-$UID
    [[ ! -w /run/user/$UID ]] || ENROOT_RUNTIME_PATH=/run/user/$UID/enroot
    [[ $dry ]] || { (umask 077 && mkdir -p -- "$ENROOT_RUNTIME_PATH") && [[ -O $ENROOT_RUNTIME_PATH ]]; } ||
        die 3 "$ENROOT_RUNTIME_PATH cannot be used" 'remedy: ENROOT_RUNTIME_PATH=/FOLDER of your own'
fi
if [[ $import_only ]]; then
    get_squash
    [[ $dry ]] || echo "$squash"
    exit
fi
[[ $dry ]] || (umask 077 && mkdir -p -- "$data") || die 3 "$data cannot be made" \
    'remedy: ENROOT_DATA_PATH=/FOLDER of your own'
get_sandbox
if ! ((${#command[@]})); then
    say 'enter it with the same flags and: -- bash'
    exit
fi
# Without it enroot's hook shows no GPU, and without capabilities not even CUDA's library.
if [[ $platform == cuda && ! -v NVIDIA_VISIBLE_DEVICES ]]; then
    export NVIDIA_VISIBLE_DEVICES=all
    export NVIDIA_DRIVER_CAPABILITIES=${NVIDIA_DRIVER_CAPABILITIES:-compute,utility}
fi
add_devices
start_command
if [[ $dry ]]; then step "${start[@]}" "${command[@]}" && exit; fi
exec "${start[@]}" "${command[@]}"
