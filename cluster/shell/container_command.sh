# shellcheck shell=bash
# Sourced by setup_enroot.sh: the command that enters the container, for enroot, docker and podman.
# shellcheck disable=SC2154 # the script sets the rest
passed=(ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES GPU_DEVICE_ORDINAL
    NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE HF_TOKEN)

# add_variable NAME | NAME=VALUE: what looks like a secret moves into the environment, so that no list
# of processes shows its value.
add_variable() {
    local name=${1%%=*}
    [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || die 2 "--env $name: no variable's name"
    if [[ $1 != *=* ]]; then
        if compgen -e | grep -qxF -- "$name"; then passed+=("$name"); else
            say "--env $name: it is not set, so it is not passed"
        fi
    elif [[ $name == *@(TOKEN|KEY|SECRET|PASSW)* ]]; then
        export "$name=${1#*=}"
        passed+=("$name")
    else
        variables+=("$1")
    fi
}

# By name, and only what is set: an empty ROCR_VISIBLE_DEVICES hides all GPUs.
set_names() {
    local one
    compgen -e | LC_ALL=C sort | while read -r one; do
        case " ${passed[*]} " in *" $one "*) echo "$one" && continue ;; esac
        case $one in SLURM_* | VLLM_* | SGLANG_* | HSA_* | NCCL_* | RCCL_*) echo "$one" ;; esac
    done
}

add_mount() { # SRC:DST[:FLAGS]
    local source=${1%%:*} rest=${1#*:}
    [[ $1 == *:* && $source && $rest == /* ]] || die 2 "--mount $1: it is SRC:/DST or SRC:/DST:FLAGS"
    [[ $print || $1 != *[[:space:]]* ]] || die 2 "--mount '$1': enroot mounts no path with spaces" \
        'remedy: a link without them: ln -s'
    [[ $source == /* ]] || source=$PWD/${source#./}
    [[ -e $source || $dry || $print ]] || die 3 "--mount $1: $source is not there"
    mounts+=("$source:$rest")
}

# enroot shows all of the host's /dev, unless ENROOT_RESTRICT_DEV forbids it. A missing source would
# fail, and a missing target would be made in the host's /dev.
add_devices() {
    local device restrict
    restrict=$(setting ENROOT_RESTRICT_DEV no)
    [[ $platform == rocm && $devices != never ]] || return 0
    [[ $devices == always || ! $restrict =~ ^(no?|N[oO]?|[fF](alse)?|FALSE)$ ]] || return 0
    for device in /dev/kfd /dev/dri; do
        [[ ! -e $device ]] || mounts+=("$device:$device")
    done
}

start_command() { # sets `start`
    local one
    # The image's entry point is left out: it would take the command as its arguments (vllm serve ...)
    # or greet on the command's stdout.
    start=(enroot start --root --rw --rc "$root/cluster/shell/rc")
    for one in "${mounts[@]}"; do start+=(--mount "$one"); done
    for one in $(set_names); do start+=(--env "$one"); done
    for one in "${variables[@]}"; do start+=(--env "$one"); done
    start+=("$name")
}

print_command() { # docker|podman: the flags of the competition's guide on ROCm
    local run=("$1" run -it --name "$name" --ipc=host) one
    # podman refuses a size for a /dev/shm that is the host's; docker ignores it.
    [[ $1 == podman ]] || run+=(--shm-size=16g)
    run+=(--network=host)
    if [[ $platform == rocm ]]; then
        run+=(--privileged --cap-add=CAP_SYS_ADMIN --device=/dev/kfd --device=/dev/dri --device=/dev/mem
            --cap-add=SYS_PTRACE --security-opt seccomp=unconfined)
    elif [[ $1 == docker ]]; then
        run+=(--gpus all)
    else
        run+=(--device nvidia.com/gpu=all)
    fi
    for one in "${mounts[@]}"; do run+=(-v "$one"); done
    for one in $({ set_names && echo HF_TOKEN; } | LC_ALL=C sort -u); do run+=(-e "$one"); done
    for one in "${variables[@]}"; do run+=(-e "$one"); done
    run+=(--entrypoint '' "$plain")
    if ((${#command[@]})); then run+=("${command[@]}"); else run+=(/bin/bash); fi
    printf '%s' "$1" && printf ' %q' "${run[@]:1}" && echo
}
