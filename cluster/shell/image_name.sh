# shellcheck shell=bash
# Sourced by setup_enroot.sh: what an image is called, and which one an engine needs.

# name_image IMAGE: prints enroot's URI, docker's name, and a label fit for files and sandboxes.
# '#' ends a registry's name in every enroot; '/' only since 4.0, before which Docker Hub is asked
# for a repository of that name. For the same reason a digest is written as a tag: that is how both
# generations ask for it, and '@' ends a user's name in the older.
name_image() {
    local scheme=docker rest=$1 user='' registry='' first path tag digest plain
    local part='[a-z0-9]+([._-]+[a-z0-9]+)*'
    if [[ $rest =~ ^([A-Za-z0-9]+)://(.*)$ ]]; then
        scheme=${BASH_REMATCH[1]} rest=${BASH_REMATCH[2]}
        [[ $scheme =~ ^(docker|dockerd|podman)$ ]] ||
            die 2 "$1: '$scheme://' is unknown; known are docker://, dockerd:// and podman://"
        if [[ $scheme == docker && $rest =~ ^([A-Za-z0-9_.\$%+-]+)@(.+)$ &&
            ${BASH_REMATCH[2]} != sha256:* ]]; then
            user=${BASH_REMATCH[1]} rest=${BASH_REMATCH[2]}
        fi
    fi
    first=${rest%%/*}
    if [[ $scheme == docker && $rest == *'#'* ]]; then
        registry=${rest%%'#'*} rest=${rest#*'#'}
        [[ $registry == *[.:]* || $registry == localhost ]] ||
            die 2 "$1: '#' ends a registry's name, and '$registry' has neither a dot nor a port" \
                "remedy: docker://${registry:+$registry/}$rest, if it is on Docker Hub"
    elif [[ $rest == */* && ($first == *[.:]* || $first == localhost) ]]; then
        registry=$first rest=${rest#*/}
    fi
    [[ $registry =~ ^(docker|index\.docker|registry-1\.docker)\.io$ ]] && registry=''
    [[ ! $registry || $registry =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?$ ]] ||
        die 2 "$1: '$registry' is no registry's name"
    [[ $rest =~ ^($part(/$part)*)(:([A-Za-z0-9_][A-Za-z0-9_.-]*))?(@(sha256:[0-9a-f]{64}))?$ ]] ||
        die 2 "'$1' is no image's name; such as: lmsysorg/sglang:v0.5.4.post2"
    path=${BASH_REMATCH[1]} tag=${BASH_REMATCH[6]:-latest} digest=${BASH_REMATCH[8]}
    plain=${registry:+$registry/}$path
    if [[ $digest ]]; then plain+=@$digest; else plain+=:$tag; fi
    first=$plain
    if [[ $scheme != docker ]]; then
        [[ ! $digest ]] || die 2 "$1: enroot takes no digest with $scheme://" 'remedy: give the tag'
        first=${scheme}_$plain
        printf '%s ' "$scheme://$plain"
    elif [[ $digest ]]; then
        [[ $registry || $path == */* ]] || path=library/$path
        printf '%s ' "docker://${user:+$user@}${registry:-registry-1.docker.io}#$path:$digest"
    else
        printf '%s ' "docker://${user:+$user@}${registry:+$registry#}$path:$tag"
    fi
    printf '%s %s\n' "$plain" "${first//[\/:@#]/_}"
}

name_file() { # FILE: the same three words for a file that is nobody's import
    local file=${1// /%20} label=${1##*/}
    label=${label%.*}
    printf '%s %s %s\n' "file:$file" "$file" "${label//[^A-Za-z0-9._-]/_}"
}

find_platform() { # prints nothing where there is no GPU
    if [[ -e /dev/kfd ]]; then
        echo rocm
    elif [[ -e /dev/nvidiactl ]] || command -v nvidia-smi >/dev/null; then
        echo cuda
    fi
}

find_gpu() { # PLATFORM: the AMD GPU that this machine's driver shows, as images.txt calls it
    [[ $1 == rocm ]] || return 0
    case $(cat /dev/null /sys/class/kfd/kfd/topology/nodes/*/properties) in
        *gfx_target_version\ 90500*) echo MI355X ;;
        *gfx_target_version\ 90402*) echo MI300X ;;
    esac
}

# image_of FILE ENGINE PLATFORM GPU
image_of() {
    local engine platform gpu image known='' any=''
    while read -r engine platform gpu image _; do
        [[ $engine == "$2" && $platform == "$3" ]] || continue
        known+=" $gpu"
        if [[ ${gpu,,} == "${4,,}" ]]; then
            echo "$image" && return
        elif [[ $gpu == '*' ]]; then
            any=$image
        fi
    done <"$1"
    [[ ! $any ]] || { echo "$any" && return; }
    die 2 "$1 has no image of $2 on $3 for the GPU '${4:-(not found here)}'" \
        "remedy: --gpu with one of:$known; or --docker_image IMAGE"
}
