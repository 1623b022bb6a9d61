#!/usr/bin/env bash
# A real Slurm on this one machine: munged, slurmctld and four slurmd with fake GPUs, all files under DIR, loopback only.
#
#   cluster.sh up [DIR=.cluster]          bring it up (ready in seconds); refuses a DIR whose cluster runs
#   cluster.sh down [DIR]                 end its jobs and stop what up started, by pid files only; the logs stay
#   DIR/node start|stop|crash NAME        NAME: n1 to n4, or ctl for slurmctld. stop: the daemon alone, jobs go on;
#                                         crash: the node's power goes, with all that runs on it
#   . DIR/env.sh                          then sbatch, squeue and the engine talk to this cluster
#
#   gpu-large      n1, n2: 4 GPUs a100 (80 GB) each      gpu-small (default)      n3, n4: 2 GPUs l40s (48 GB) each
#
# CPUs, memory and GPUs are counted by Slurm but nothing is pinned or limited. Each daemon lives in namespaces of its own,
# so that a node has its own host name and address (127.0.1.N) and a power-off leaves no orphans. Runs as root, without
# systemd, or as a plain user where user namespaces are allowed. Several clusters run side by side: ports are free ones.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
SELF=$(readlink -f "$0")
NODES=(n1 n2 n3 n4)

die() { echo "cluster: $*" >&2; exit 1; }

wait_for() { # seconds, command...: until the command succeeds
  local tries=$(($1 * 20)); shift
  while ! "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || return 1
    sleep 0.05
  done
}

namespaces() { # the unshare command line, an argument a line
  printf '%s\n' unshare --uts --mount --pid --fork --mount-proc --kill-child=KILL
  [ "$(id -u)" = 0 ] || printf '%s\n' --user --map-current-user --keep-caps
}

require_tools() {
  local tool missing=()
  for tool in munged slurmctld slurmd sbatch sinfo unshare nsenter setsid; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ ${#missing[@]} = 0 ] || die "missing: ${missing[*]}; apt-get install --no-install-recommends slurm-wlm munge"
  local ns; mapfile -t ns < <(namespaces)
  "${ns[@]}" sh -c 'hostname n1 && mount --bind /etc/hostname /etc/hosts' 2>/dev/null ||
    die "this machine allows no namespaces (unshare failed): run as root, or allow unprivileged user namespaces"
}

listening() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

free_port() { # below the ephemeral range, and free on every address that we use
  local port address
  for _ in $(seq 200); do
    port=$((15000 + RANDOM % 15000))
    for address in 127.0.0.1 127.0.1.1 127.0.1.2 127.0.1.3 127.0.1.4; do
      ! listening "$address" $port || continue 2
    done
    echo $port
    return
  done
  die "no free port found between 15000 and 30000"
}

write_slurm_conf() {
  local ctl_port slurmd_port me
  ctl_port=$(free_port) slurmd_port=$(free_port) me=$(id -un)
  while [ "$slurmd_port" = "$ctl_port" ]; do slurmd_port=$(free_port); done
  cat >"$DIR/etc/slurm.conf" <<CONF
ClusterName=engine
SlurmctldHost=ctl(127.0.0.1)
SlurmctldPort=$ctl_port
SlurmdPort=$slurmd_port
SlurmUser=$me
SlurmdUser=$me
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits cred_expire + 1 s before it may start; the default is 120.
AuthInfo=socket=$DIR/run/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/spool/ctl.pid
SlurmdPidFile=$DIR/spool/%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
# A silent node is DOWN after about 10 s.
SlurmdTimeout=5
MessageTimeout=3
ReturnToService=1
KillWait=5
MinJobAge=300
SlurmdParameters=config_overrides
NodeName=n1 NodeAddr=127.0.1.1 CPUs=64 RealMemory=512000 Gres=gpu:a100:4
NodeName=n2 NodeAddr=127.0.1.2 CPUs=64 RealMemory=512000 Gres=gpu:a100:4
NodeName=n3 NodeAddr=127.0.1.3 CPUs=32 RealMemory=128000 Gres=gpu:l40s:2
NodeName=n4 NodeAddr=127.0.1.4 CPUs=32 RealMemory=128000 Gres=gpu:l40s:2
PartitionName=gpu-large Nodes=n1,n2 MaxTime=2-00:00:00 State=UP
PartitionName=gpu-small Nodes=n3,n4 Default=YES MaxTime=2-00:00:00 State=UP
CONF
  # File= must name devices; a link to one will do. Without File= Slurm sets no CUDA_VISIBLE_DEVICES.
  cat >"$DIR/etc/gres.conf" <<CONF
NodeName=n[1-2] Name=gpu Type=a100 File=$DIR/dev/gpu[0-3]
NodeName=n[3-4] Name=gpu Type=l40s File=$DIR/dev/gpu[0-1]
CONF
}

write_site() { # the engine's view of this cluster
  cat >"$DIR/site.toml" <<CONF
# The cluster that tests/cluster.sh brought up in $DIR: fake GPUs, so only the simulator and CPU models run here.
interface = "hostname"
squeue_interval_s = 2
settle_s = 1

[gpu_types]
a100 = 80
l40s = 48

[partitions.gpu-small]
gpu_types = ["l40s"]

[partitions.gpu-large]
gpu_types = ["a100"]
CONF
}

write_files() {
  local i
  mkdir -p "$DIR"/{etc,run,log,state,dev,spool/n1,spool/n2,spool/n3,spool/n4}
  for i in 0 1 2 3; do ln -sfn /dev/null "$DIR/dev/gpu$i"; done
  printf '%s\n' "127.0.0.1 localhost ctl" "127.0.1.1 n1" "127.0.1.2 n2" "127.0.1.3 n3" "127.0.1.4 n4" >"$DIR/etc/hosts"
  [ -s "$DIR/etc/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$DIR/etc/munge.key")
  write_slurm_conf
  write_site
  printf 'export SLURM_CONF=%q\nexport ENGINE_SITE=%q\n' "$DIR/etc/slurm.conf" "$DIR/site.toml" >"$DIR/env.sh"
  printf '#!/usr/bin/env bash\nexec %q node %q "$@"\n' "$SELF" "$DIR" >"$DIR/node"
  chmod +x "$DIR/node"
}

# --- processes: a pid counts as ours only while its command line names DIR ---------------------------------------------

ours() { # pid
  [ -n "$1" ] && tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF -- "$DIR/"
}

gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

stop_pid_file() { # file, signal
  local pid; pid=$(cat "$1" 2>/dev/null) || return 0
  if ours "$pid"; then
    kill "-$2" "$pid" 2>/dev/null || true
    wait_for 5 gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$1"
}

machine() { # the pid of NAME's namespaces; fails when it is powered off
  local pid; pid=$(cat "$DIR/run/$1.machine" 2>/dev/null) || return 1
  ours "$pid" && ! gone "$pid" && echo "$pid"
}

inside() { # NAME, command...: in the namespaces of NAME
  local first; first=$(pgrep -P "$(machine "$1")") || die "$1 is powered off"
  shift
  if [ "$(id -u)" = 0 ]; then nsenter --uts --mount --pid -t "$first" "$@"
  else nsenter --preserve-credentials --user --uts --mount --pid -t "$first" "$@"; fi
}

run_daemon() { if [ "$1" = ctl ]; then slurmctld; else slurmd -N "$1"; fi; }

# pid 1 of a machine: starts the daemon, then reaps.
boot() {
  hostname "$1"
  mount --bind "$DIR/etc/hosts" /etc/hosts
  (run_daemon "$1")
  while :; do sleep 86400 & wait $!; done
}

node() { # start|stop|crash NAME
  local ns; mapfile -t ns < <(namespaces)
  export SLURM_CONF=$DIR/etc/slurm.conf
  case ${1:-}:$2 in
    start:ctl | start:n[1-4])
      if machine "$2" >/dev/null; then
        inside "$2" "$SELF" daemon "$DIR" "$2"
      else
        setsid "${ns[@]}" "$SELF" boot "$DIR/" "$2" </dev/null >"$DIR/log/boot-$2.log" 2>&1 &
        echo $! >"$DIR/run/$2.machine"
      fi ;;
    stop:ctl | stop:n[1-4]) inside "$2" kill "$(cat "$DIR/spool/$2.pid")" ;;
    crash:ctl | crash:n[1-4]) stop_pid_file "$DIR/run/$2.machine" KILL ;;
    *) die "node start|stop|crash ctl|n1|n2|n3|n4" ;;
  esac
}

# --- up and down ---------------------------------------------------------------------------------------------------------

all_idle() { [ "$(timeout 3 sinfo -h -N -o '%N %T' | sort -u | grep -c ' idle$')" = ${#NODES[@]} ]; }

up() {
  local name began=$EPOCHREALTIME
  ! machine ctl >/dev/null || die "$DIR has a running cluster; first: $SELF down $DIR"
  [ ${#DIR} -le 80 ] || die "$DIR is too long for a socket's path (80 characters at most)"
  require_tools
  trap 'down >&2' EXIT
  write_files
  # --force: a home or a container's / may be writable for a group, which munged calls insecure.
  munged --force --key-file="$DIR/etc/munge.key" --socket="$DIR/run/munge.socket" --pid-file="$DIR/run/munged.pid" \
    --log-file="$DIR/log/munged.log" --seed-file="$DIR/run/munged.seed" 2>>"$DIR/log/munged.log" ||
    die "munged did not start, see $DIR/log/munged.log"
  for name in ctl "${NODES[@]}"; do node start "$name"; done
  export SLURM_CONF=$DIR/etc/slurm.conf
  wait_for 40 all_idle || die "not all nodes are idle after 40 s, see $DIR/log; $(sinfo -N 2>&1 | tail -5)"
  trap - EXIT
  echo "cluster: ${#NODES[@]} nodes idle after $(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $began }") s; now: . $DIR/env.sh"
}

no_jobs() { [ -z "$(timeout 5 squeue -h)" ]; }

down() {
  local name
  export SLURM_CONF=$DIR/etc/slurm.conf
  if machine ctl >/dev/null && timeout 5 squeue -h -o %A >"$DIR/run/jobs" 2>/dev/null; then
    sort -u "$DIR/run/jobs" | xargs -r timeout 10 scancel || true
    wait_for 8 no_jobs || true
  fi
  for name in "${NODES[@]}" ctl; do stop_pid_file "$DIR/run/$name.machine" KILL; done
  stop_pid_file "$DIR/run/munged.pid" TERM
  rm -rf "$DIR/state" "$DIR/spool" "$DIR/run"
  echo "cluster: $DIR is down; logs stay in $DIR/log"
}

main() {
  local command=${1:-} dir=${2:-.cluster}
  case $command in
    up) mkdir -p "$dir" ;;
    down) [ -d "$dir/etc" ] || { echo "cluster: no cluster in $dir"; return; } ;;
    node | boot | daemon) ;;
    *) sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//; p}' "$SELF"; exit 2 ;;
  esac
  DIR=$(cd "$dir" && pwd -P)
  case $command in
    up) up ;;
    down) down ;;
    node) node "${3:-}" "${4:-}" ;;
    boot) boot "$3" ;;
    daemon) run_daemon "$3" ;;
  esac
}

main "$@"
