# shellcheck shell=bash
# Sourced by setup_enroot.sh: the unpacked image, made once. Beside it lie two files: .NAME.making
# while it is unpacked, .NAME.image once that is complete, with the image file it came from.
# shellcheck disable=SC2154 # the script sets the rest

sandbox_state() {
    local from=''
    if [[ ! -e $data/$name ]]; then
        echo absent
    elif [[ -e $data/.$name.image ]]; then
        read -r from <"$data/.$name.image" || true
        if [[ ${from%% *} != "$uri" ]]; then
            echo "made from ${from%% *}"
        elif [[ -e $squash && ${from#* } != "$(size_and_time "$squash")" ]]; then
            echo "made from an older $squash"
        else
            echo ready
        fi
    elif [[ -e $data/.$name.making ]]; then
        echo half
    else
        echo 'not made by this script'
    fi
}

# wants_making [locked]: false where it is ready; ends where another's would have to be removed.
# Without the lock half a sandbox may well be in the making.
wants_making() {
    local state
    state=$(sandbox_state)
    case $state in
        *made*) [[ $force ]] || die 3 "the sandbox $name is there, but $state" \
            'remedy: another --sandbox_name, or --force to make it anew' ;;
        half) [[ ! ${1:-} ]] || say "the sandbox $name was never completed: it is made anew" ;;
        ready) [[ $force ]] || { say "the sandbox $name is ready" && return 1; } ;;
    esac
}

make_sandbox() {
    wants_making locked || return 0
    if [[ ! $dry ]]; then
        : >"$data/.$name.making"
        rm -f -- "$data/.$name.image"
    fi
    [[ ! -e $data/$name ]] || long_step enroot remove -f "$name" ||
        die 3 "enroot could not remove the sandbox $name; its message stands above"
    say "unpacking $squash into the sandbox $name ..."
    long_step enroot create --name "$name" "$squash" ||
        die 3 "enroot could not make the sandbox $name; its message stands above" \
            "free: $(free_space "$data")" 'remedy: no space: ENROOT_DATA_PATH on a larger disk'
    [[ ! $dry ]] || return 0
    echo "$uri $(size_and_time "$squash")" >"$data/.$name.new"
    mv -f -- "$data/.$name.new" "$data/.$name.image"
    rm -f -- "$data/.$name.making"
    say "the sandbox $name is ready"
}

get_sandbox() {
    wants_making || return 0
    get_squash
    locked "$data/.$name.lock" make_sandbox
}
