#!/usr/bin/env bash
# A Slurm cluster on one machine, for tests; as root. Nodes n1, n2, ... share the file system, but each
# has its own network, host name, /dev/shm, /run/pyxis and disk (/run/minislurm-INSTANCE/disk).
#   cluster.sh INSTANCE up [-n NODES] [-g GPUS] [-t GPU_TYPE] [-f GRES_FLAGS] [-p PLUGSTACK_LINE] FOLDER
#   cluster.sh INSTANCE down       also what a crash left behind; up begins with it
#   cluster.sh INSTANCE off NODE   cut the power: silence on the network, every process killed
#   cluster.sh INSTANCE on NODE    and on again; the disk has kept its files
# INSTANCE is a digit: clusters of different instances live side by side.
set -euo pipefail
instance=$1 command=$2
shift 2
[[ $instance == [0-9] ]]
run=/run/minislurm-$instance bridge=ms$instance net=198.18.$instance port=$((17000 + instance))

# One script at a time, as all instances share /run/netns. Its daemons must not keep the lock: 9>&-.
exec 9>/run/lock/minislurm
flock -w 100 9 || { echo "cluster.sh: another one has held /run/lock/minislurm for 100 s" >&2; exit 1; }

# poll SECONDS COMMAND...
poll() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

# Where pid 1 reaps slowly a dead daemon still has a number, but no command line. A folder's daemons name
# its slurm.conf there, so a reused number is nobody's.
alive() { grep -aqsF -- "$folder/slurm.conf" "/proc/$1/cmdline"; }
none_alive() {
    local pid
    while read -r pid _; do ! alive "$pid" || return 1; done <"$run/pids"
}
no_jobs() { [[ -z $(timeout 5 squeue -h 2>/dev/null) ]]; }
idle() { [[ $(timeout 5 sinfo -h -N -t idle -n "$1" -o %N 2>/dev/null | wc -l) == "$2" ]]; }
emptied() { # all processes of a network namespace are killed, until there are none
    local pids
    pids=$(ip netns pids "$1")
    # shellcheck disable=SC2086  # one word a process
    [[ -z $pids ]] || { kill -KILL $pids 2>/dev/null || true; return 1; }
}

start() {
    local name=$1
    shift
    env -i PATH="$PATH" setsid "$@" >"$folder/log/$name.out" 2>&1 </dev/null 9>&- &
    echo "$! $name" >>"$run/pids"
}
start_node() {
    # shellcheck disable=SC2016  # the node's shell replaces its own $1..$3
    start "slurmd-$1" ip netns exec "$bridge-$1" unshare --uts sh -ec '
        hostname "$1"
        mount --bind "$2/disk/$1" "$3/disk"
        mkdir -p /run/pyxis  # a cluster that goes down beside this one may have removed it
        mount -t tmpfs -o mode=755 tmpfs /run/pyxis
        mount -t tmpfs -o mode=1777 tmpfs /dev/shm
        exec slurmd -D -N "$1" -f "$2/slurm.conf"' sh "$1" "$folder" "$run"
}

down() {
    local pid name
    if [[ -e $run/pids ]]; then
        read -r pid _ <"$run/pids" || pid=none  # slurmctld's; without it there is nobody to ask
        if alive "$pid"; then  # no step may outlive its slurmd
            export SLURM_CONF=$folder/slurm.conf
            timeout 5 squeue -h -o %A | xargs -r timeout 5 scancel --quiet || true
            poll 8 no_jobs || echo "cluster.sh: jobs are left, their processes will be killed" >&2
        fi
        while read -r pid _; do ! alive "$pid" || kill -TERM "$pid" || true; done <"$run/pids"
        poll 5 none_alive ||
            while read -r pid _; do ! alive "$pid" || kill -KILL "$pid" || true; done <"$run/pids"
    fi
    while read -r name _; do
        [[ $name == "$bridge"-n* ]] || continue
        poll 5 emptied "$name" || echo "cluster.sh: processes are left in $name" >&2
        # The link by name: a namespace that is gone frees its links only later.
        ip link del "$bridge.${name#*-n}" 2>/dev/null || true
        ip netns del "$name"
        rm -rf "/etc/netns/$name"
    done < <(ip netns list)
    ip link del "$bridge" 2>/dev/null || true
    rm -rf "$run"
    rmdir /etc/netns /run/pyxis 2>/dev/null || true
    if mountpoint -q /run/netns && [[ -z $(ls -A /run/netns) ]]; then
        umount /run/netns
        rmdir /run/netns
    fi
}

folder=$(cat "$run/folder" 2>/dev/null || echo /nonexistent)
case $command in
down)
    down
    exit
    ;;
off)
    ip link set "$bridge.${1#n}" down  # first, or the others would see connections being closed
    poll 10 emptied "$bridge-$1"
    exit
    ;;
on)
    ip link set "$bridge.${1#n}" up
    export SLURM_CONF=$folder/slurm.conf
    start_node "$1"
    exit
    ;;
up) ;;
*) exit 2 ;;
esac

nodes=2 gpus=8 gpu_type=mi355x flags='' plugstack=''
while getopts n:g:t:f:p: option; do
    case $option in
    n) nodes=$OPTARG ;;
    g) gpus=$OPTARG ;;
    t) gpu_type=$OPTARG ;;
    f) flags=$OPTARG ;;
    p) plugstack=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

down
folder=$1
trap 'echo "cluster.sh: line $LINENO failed" >&2; tail -n 5 "$folder"/log/*.log >&2; down' ERR
mkdir -p "$folder"/{log,state,spool,dev,disk} "$run/disk" /run/pyxis
echo "$folder" >"$run/folder"
: >"$run/pids"

# Slurm wants a device for each GPU, and the file to be a device: these are /dev/null again.
: >"$folder/gres.conf"
for ((k = 0; k < gpus; k++)); do
    mknod "$folder/dev/gpu$k" c 1 3
    echo "Name=gpu Type=$gpu_type File=$folder/dev/gpu$k${flags:+ Flags=$flags}" >>"$folder/gres.conf"
done
printf '%s\n' "$plugstack" >"$folder/plugstack.conf"
printf 'CgroupAutomount=no\nCgroupPlugin=cgroup/v1\n' >"$folder/cgroup.conf"
host=$(hostname -s)
# cred_expire: a requeued job waits that long; 5 is the least that is accepted. MinJobAge: scontrol shows
# finished jobs so long. SlurmdTimeout: a silent node is DOWN after it. config_overrides: nodes may claim
# what they do not have.
cat >"$folder/slurm.conf" <<END
ClusterName=mini
SlurmctldHost=$host($net.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
PlugStackConfig=$folder/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
KillWait=5
MinJobAge=3600
JobRequeue=1
SchedulerParameters=sched_min_interval=0,sched_interval=2,bf_interval=2,batch_sched_delay=0
NodeName=DEFAULT CPUs=16 RealMemory=4000 State=UNKNOWN
END
((gpus == 0)) || echo "NodeName=DEFAULT Gres=gpu:$gpu_type:$gpus" >>"$folder/slurm.conf"

ip link add "$bridge" type bridge
ip addr add "$net.1/24" dev "$bridge"
ip link set "$bridge" up
printf '%s\n' '127.0.0.1 localhost' "$net.1 $host" >"$folder/hosts"
for ((k = 1; k <= nodes; k++)); do
    address=$net.$((10 + k)) name=$bridge-n$k
    echo "$address n$k" >>"$folder/hosts"
    echo "NodeName=n$k NodeHostname=n$k NodeAddr=$address Port=$port" >>"$folder/slurm.conf"
    mkdir -p "$folder/disk/n$k" "$folder/spool/n$k" "/etc/netns/$name"
    ip netns add "$name"
    ip link add "$bridge.$k" type veth peer name eth0 netns "$name"
    ip link set "$bridge.$k" master "$bridge" up
    ip -n "$name" addr add "$address/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
done
echo "PartitionName=compute Nodes=ALL Default=YES MaxTime=INFINITE State=UP" >>"$folder/slurm.conf"
for ((k = 1; k <= nodes; k++)); do cp "$folder/hosts" "/etc/netns/$bridge-n$k/hosts"; done

start slurmctld slurmctld -D -i -f "$folder/slurm.conf"
for ((k = 1; k <= nodes; k++)); do start_node "n$k"; done
export SLURM_CONF=$folder/slurm.conf
poll 30 idle "n[1-$nodes]" "$nodes"
