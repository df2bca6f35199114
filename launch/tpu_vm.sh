#!/bin/bash
# A TPU slice of virtual machines, from its request to its end:
#   export NAME=dalle ZONE=us-west4-a TYPE=v5litepod-16 VERSION=v2-alpha-tpuv5-lite
#   launch/tpu_vm.sh create                         asks for it (SPOT=1: cheaper, may be taken away) and waits until it is there
#   launch/tpu_vm.sh install                        copies this directory to all hosts and installs it
#   launch/tpu_vm.sh run experiments/dalle_1b.py --workdir /runs/dalle_1b --data /runs/data --mesh.fsdp 16
#   launch/tpu_vm.sh babysit EXPERIMENT ...         all of that, again whenever the slice is taken away or a run can go on
#   launch/tpu_vm.sh delete
# FILESTORE=10.0.0.2:/share is mounted as /runs on all hosts; --workdir gs://BUCKET/NAME does without. Five tries in a row without a new checkpoint are the last.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  sed -n '2,8s/^# \{0,1\}//p' "launch/tpu_vm.sh" >&2
  exit 2
}

needed() {
  local variable
  for variable in NAME ZONE "$@"; do
    [ -n "${!variable-}" ] || { echo "tpu_vm: $variable is not set: export $variable=..." >&2 && exit 2; }
  done
}

slice() { gcloud compute tpus tpu-vm "$@" --zone="$ZONE"; }
queued() { gcloud compute tpus queued-resources "$@" --zone="$ZONE"; }
everywhere() { slice ssh "$NAME" --worker=all --command="$1"; }

# What has become of the request: Google's word, GONE, or UNKNOWN where it can't be asked.
state() {
  local said
  if said=$(queued describe "$NAME" --format='value(state.state)' 2>&1); then
    echo "$said"
  elif [[ $said == *NOT_FOUND* ]]; then
    echo GONE
  else
    echo "tpu_vm: ${said##*$'\n'}" >&2
    echo UNKNOWN
  fi
}

# These are called where `set -e` does not hold, so each step says what comes of a failure.
create() {
  needed TYPE VERSION
  queued create "$NAME" --node-id="$NAME" --accelerator-type="$TYPE" --runtime-version="$VERSION" ${SPOT:+--spot} || return
  local now
  while now=$(state) && [ "$now" != ACTIVE ]; do
    case $now in
      FAILED | SUSPENDED | GONE) echo "tpu_vm: the request of $NAME is $now" >&2 && return 1 ;;
    esac
    sleep "${POLL:-20}"
  done
}

install() {
  slice scp --recurse --worker=all src setup.cfg pyproject.toml requirements.lock README.md experiments "$NAME:" &&
    everywhere "python3 -m pip install -q --user uv && python3 -m uv venv -q --allow-existing --python 3.12 dalle && \
python3 -m uv pip install -q --python dalle/bin/python --require-hashes -r requirements.lock && \
python3 -m uv pip install -q --python dalle/bin/python '.[tpu,gcs]'" &&
    if [ -n "${FILESTORE-}" ]; then
      everywhere "sudo mkdir -p /runs && (mountpoint -q /runs || sudo mount $FILESTORE /runs) && sudo chmod 1777 /runs"
    fi
}

# gcloud tells no more than that one host failed: each writes its exit code, and of these the one that says most counts.
run() {
  local words codes code
  printf -v words '%q ' "$@"
  everywhere "pkill -KILL -f '[d]alle/bin/dalle train' || true; rm -f code" || return 86
  everywhere "dalle/bin/dalle train $words; code=\$?; echo \$code >code; exit \$code" && return 0
  codes=$(slice ssh "$NAME" --worker=all --command="cat code" 2>/dev/null) || true
  for code in 2 87 88 75 86; do
    grep -qx "$code" <<<"$codes" && return "$code"
  done
  return 86
}

delete() { queued delete "$NAME" --force --quiet; }

# The checkpoints that the run has.
saved() {
  case $1 in
    gs://*) gcloud storage ls "$1/*/checkpoints/*/manifest.json" 2>/dev/null | md5sum ;;
    *) slice ssh "$NAME" --worker=0 --command="find '$1' -path '*/checkpoints/*/manifest.json' | sort | md5sum" || echo ;;
  esac
}

babysit() {
  local workdir='' installed='' fruitless=0 code before i
  for ((i = 1; i < $#; i++)); do
    if [ "${!i}" = --workdir ]; then i=$((i + 1)) && workdir=${!i}; fi
  done
  [ -n "$workdir" ] || usage
  while [ "$fruitless" -le 5 ]; do
    [ "$fruitless" = 0 ] || sleep "${POLL:-20}"
    case $(state) in
      ACTIVE) ;;
      GONE)
        installed=''
        create || { fruitless=$((fruitless + 1)) && continue; }
        ;;
      FAILED | SUSPENDED) delete || fruitless=$((fruitless + 1)) && continue ;;
      UNKNOWN) fruitless=$((fruitless + 1)) && continue ;;
      *) sleep "${POLL:-20}" && continue ;;
    esac
    [ -n "$installed" ] || install || { fruitless=$((fruitless + 1)) && continue; }
    installed=yes before=$(saved "$workdir") code=0
    run "$@" || code=$?
    case $code in
      0 | 2 | 87 | 88) return "$code" ;;
    esac
    # A slice that was taken away is no fault of the run's.
    if [ "$(state)" != ACTIVE ] || [ "$(saved "$workdir")" != "$before" ]; then fruitless=0; else fruitless=$((fruitless + 1)); fi
    echo "tpu_vm: ended with $code; starting again" >&2
  done
  echo "tpu_vm: given up after 5 tries in a row without a new checkpoint" >&2
  return "${code:-1}"
}

[ $# -ge 1 ] || usage
what=$1 && shift
case $what in
  create | install | delete) [ $# = 0 ] || usage ;;
  run | babysit) [ $# -ge 1 ] || usage ;;
  *) usage ;;
esac
needed
"$what" "$@"
