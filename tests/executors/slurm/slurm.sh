#!/bin/bash
# A real Slurm of one node, without systemd, for tests: `slurm.sh up` and `slurm.sh down`, as root.
# Everything lies in $SLURM_HOME; `up` prints the SLURM_CONF that clients need. Debian's slurmctld, slurmd, slurm-client and munge.
set -euo pipefail
: "${SLURM_HOME:?a folder of its own}"
export SLURM_CONF=$SLURM_HOME/slurm.conf PATH=$PATH:/usr/sbin:/sbin
port=${SLURM_PORT:-6817} cpus=${SLURM_CPUS:-$(nproc --all)} host=$(hostname -s)
memory=$(awk '/^MemTotal:/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)

running() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

stop() { # pid file
  running "$1" || return 0
  kill "$(cat "$1")"
  for _ in $(seq 100); do running "$1" || return 0; sleep 0.1; done
  kill -9 "$(cat "$1")"
}

down() {
  if running "$SLURM_HOME/slurmctld.pid"; then squeue -h -o %A | xargs -r scancel || true; fi
  for daemon in slurmd.pid slurmctld.pid munge/pid; do stop "$SLURM_HOME/$daemon"; done
}

case ${1:-} in
up)
  trap down ERR
  mkdir -p "$SLURM_HOME"/{munge,state,spool}
  chmod 755 "$SLURM_HOME" "$SLURM_HOME/munge"
  [ -s "$SLURM_HOME/munge/key" ] || (umask 077; head -c 128 /dev/urandom >"$SLURM_HOME/munge/key")
  cat >"$SLURM_CONF" <<EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$SLURM_HOME/munge/socket
CredType=cred/munge
StateSaveLocation=$SLURM_HOME/state
SlurmdSpoolDir=$SLURM_HOME/spool
SlurmctldPidFile=$SLURM_HOME/slurmctld.pid
SlurmdPidFile=$SLURM_HOME/slurmd.pid
SlurmctldLogFile=$SLURM_HOME/slurmctld.log
SlurmdLogFile=$SLURM_HOME/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=$((memory / cpus / 2))
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=300
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE OverSubscribe=NO State=UP
EOF
  running "$SLURM_HOME/munge/pid" || munged --key-file="$SLURM_HOME/munge/key" --pid-file="$SLURM_HOME/munge/pid" \
    --log-file="$SLURM_HOME/munge/log" --seed-file="$SLURM_HOME/munge/seed" --socket="$SLURM_HOME/munge/socket" \
    --origin=127.0.0.1
  running "$SLURM_HOME/slurmctld.pid" || slurmctld
  running "$SLURM_HOME/slurmd.pid" || slurmd
  for _ in $(seq 120); do
    case $(sinfo -h -N -o %T 2>/dev/null | head -1) in
      idle) timeout 20 srun -Q -n1 -t1 true 2>/dev/null && { echo "SLURM_CONF=$SLURM_CONF"; exit 0; } ;;
      down* | drain*) scontrol update nodename="$host" state=resume || true ;;
    esac
    sleep 0.5
  done
  echo "Slurm does not answer: see $SLURM_HOME/*.log" >&2
  down
  exit 1
  ;;
down) down ;;
*)
  echo "usage: SLURM_HOME=folder $0 up|down" >&2
  exit 2
  ;;
esac
