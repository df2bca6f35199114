#!/bin/bash
# A TPU slice of virtual machines, from its request to its end:
#   export NAME=dalle ZONE=us-west4-a TYPE=v5litepod-16 VERSION=v2-alpha-tpuv5-lite
#   launch/tpu_vm.sh create                         asks for it (SPOT=1: cheaper, may be taken away) and waits until it is there
#   launch/tpu_vm.sh install                        copies this directory to all hosts and installs it
#   launch/tpu_vm.sh run experiments/dalle_1b.py --workdir /runs/dalle_1b --data /runs/data --mesh.fsdp 16
#   launch/tpu_vm.sh babysit EXPERIMENT ...         all of that, again whenever the slice is taken away or a run can go on
#   launch/tpu_vm.sh delete
# FILESTORE=10.0.0.2:/share is mounted as /runs on all hosts. Restarts are counted as by launch/local.py.
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
state() { queued describe "$NAME" --format='value(state.state)' 2>/dev/null || echo GONE; }
everywhere() { slice ssh "$NAME" --worker=all --command="$1"; }

create() {
  needed TYPE VERSION
  queued create "$NAME" --node-id="$NAME" --accelerator-type="$TYPE" --runtime-version="$VERSION" ${SPOT:+--spot}
  until [ "$(state)" = ACTIVE ]; do
    case $(state) in
      FAILED | SUSPENDED | GONE) echo "tpu_vm: the request of $NAME is $(state)" >&2 && return 1 ;;
    esac
    sleep "${POLL:-20}"
  done
}

install() {
  slice scp --recurse --worker=all src setup.cfg pyproject.toml requirements.lock README.md experiments "$NAME:"
  everywhere "python3 -m venv dalle && dalle/bin/pip install -q --require-hashes -r requirements.lock && \
dalle/bin/pip install -q '.[tpu]'"
  [ -z "${FILESTORE-}" ] || everywhere "sudo mkdir -p /runs && (mountpoint -q /runs || sudo mount $FILESTORE /runs)"
}

# The exit code of the first host whose run ended: gcloud's own tells no more than that one failed.
run() {
  local words
  printf -v words '%q ' "$@"
  everywhere "rm -f code; dalle/bin/dalle train $words; code=\$?; echo \$code >code; exit \$code" && return 0
  local code
  code=$(slice ssh "$NAME" --worker=0 --command="cat code" 2>/dev/null) || code=86
  return "${code:-86}"
}

delete() { queued delete "$NAME" --force --quiet; }

babysit() {
  local again=0 code
  while true; do
    case $(state) in
      ACTIVE) ;;
      GONE) { create && install; } || delete || true ;;
      FAILED | SUSPENDED | SUSPENDING) delete || true ;;
      *) sleep "${POLL:-20}" ;;
    esac
    [ "$(state)" = ACTIVE ] || continue
    code=0
    run "$@" || code=$?
    case $code in
      0 | 2 | 87 | 88) return "$code" ;;
    esac
    [ "$(state)" = ACTIVE ] || { again=0 && continue; } # the slice was taken away, which is no fault of the run's
    again=$((again + 1))
    [ "$again" -le 5 ] || { echo "tpu_vm: given up after 5 restarts; the last exit code was $code" >&2 && return "$code"; }
    echo "tpu_vm: ended with $code; starting again" >&2
    sleep "${POLL:-20}"
  done
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
