#!/usr/bin/env bash
# Installs the real parts that the tests run against: Slurm, munge, NGINX, PostgreSQL, OpenSSL, Chromium. As root on Debian; elsewhere it says what is missing.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive
declare -A package=([slurmctld]=slurm-wlm [slurmd]=slurm-wlm [sbatch]=slurm-wlm [munged]=munge [nginx]=nginx-light [openssl]=openssl
  [chromium]=chromium)
missing=()
for program in "${!package[@]}"; do
  command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
# Debian keeps PostgreSQL's programs out of the path.
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
[ ${#missing[@]} -gt 0 ] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "install.sh: missing ${missing[*]}, and not root on Debian to install them: tests that need them are skipped" >&2
  [ -z "${ENGINE_REQUIRE_REAL:-}" ] || exit 1
  exit 0
fi
log=$(mktemp)
echo "installing ${missing[*]}"
{ apt-get -qq update && apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}"; } \
  >"$log" 2>&1 </dev/null || { tail -20 "$log" >&2; echo "install.sh: apt-get failed" >&2; exit 1; }
rm -f "$log"
