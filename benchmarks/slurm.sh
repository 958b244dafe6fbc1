#!/bin/sh
# Start SLURM with this machine as its one node, without systemd, accounting or control groups (Debian: slurm-wlm, as root).
#
#     sh benchmarks/slurm.sh /tmp/slurm          start; then SLURM_CONF=/tmp/slurm/slurm.conf medadapt folds --launcher slurm
#     sh benchmarks/slurm.sh /tmp/slurm stop
set -eu
into=$(mkdir -p "$1" && cd "$1" && pwd)
if [ "${2:-start}" = stop ]; then
    export SLURM_CONF="$into/slurm.conf"
    scancel --user="$(id -un)"
    for _ in $(seq 30); do # a job reports its end to the daemons
        if [ -z "$(squeue --noheader)" ]; then break; fi
        sleep 1
    done
    for daemon in slurmd slurmctld munged; do
        kill "$(cat "$into/$daemon.pid")" 2> /dev/null || true
    done
    exit
fi
node=$(hostname -s)
mkdir -p "$into/state" "$into/spool"
(umask 077 && head -c 1024 /dev/urandom > "$into/munge.key")
cat > "$into/slurm.conf" << EOF
ClusterName=one
SlurmctldHost=$node(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$into/munge.socket
CredType=cred/munge
StateSaveLocation=$into/state
SlurmdSpoolDir=$into/spool
SlurmctldPidFile=$into/slurmctld.pid
SlurmdPidFile=$into/slurmd.pid
SlurmctldLogFile=$into/slurmctld.log
SlurmdLogFile=$into/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MailProg=/bin/true
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP
EOF
munged --force --key-file="$into/munge.key" --socket="$into/munge.socket" --pid-file="$into/munged.pid" \
    --log-file="$into/munged.log" --seed-file="$into/munged.seed"
export SLURM_CONF="$into/slurm.conf"
slurmctld
slurmd
sinfo
