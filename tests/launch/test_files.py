"""The launch files by other people's eyes: shellcheck, Kubernetes' schemas, XPK's own JobSet, SkyPilot's parser."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
# What `make launch-checkers` installs, beside the environment: these bring hundreds of packages with them.
CHECKERS = ROOT / ".venv-launch/bin"

JOBSET = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
(SLICE,) = JOBSET["spec"]["replicatedJobs"]


def checker(name):
  """A program of the checkers, or a skip that says how to get them."""
  if not (CHECKERS / name).exists():
    pytest.skip("needs `make launch-checkers`")
  return str(CHECKERS / name)


@pytest.mark.parametrize("script", ["launch/slurm.sbatch", "launch/ablate.sbatch", "launch/tpu_vm.sh", ".ci/run"])
def test_shellcheck_finds_nothing(script):
  if shutil.which("shellcheck") is None:
    pytest.skip("needs shellcheck (apt-get install it)")
  done = subprocess.run(["shellcheck", "--severity=warning", ROOT / script], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
  ("codes", "ended"), [((0, 0), 0), ((1, 0), 1), ((75, 1), 75), ((1, 75, 0, 2), 75), ((137, 1), 137), ((1, 2), 2)]
)
def test_a_line_that_goes_on_when_begun_again_is_not_forgotten_for_one_that_failed(codes, ended, tmp_path):
  lines = tmp_path / "lines.sh"
  lines.write_text("".join(f"echo line; exit {code}\n" for code in codes))
  environment = {"PATH": os.environ["PATH"], "SLURM_RESTART_COUNT": "5"}  # the last start asks for no other
  done = subprocess.run(["bash", LAUNCH / "ablate.sbatch", lines], capture_output=True, text=True, env=environment)
  assert done.returncode == ended
  assert done.stdout == "line\n" * len(codes) + f"start 5 ended with {ended}\n"


# As kubernetes-validate has no JobSets, of which this is what Kubernetes itself runs.
VALIDATE = """
import sys, yaml, kubernetes_validate
(job,) = yaml.safe_load(open(sys.argv[1]))["spec"]["replicatedJobs"]
spec = job["template"]["spec"]
if len(sys.argv) > 2:
  spec["template"]["spec"]["restartPolice"] = spec["template"]["spec"].pop("restartPolicy")
whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}, "spec": spec}
kubernetes_validate.validate(whole, "1.37", strict=True)
"""


def test_the_jobset_s_job_is_one_by_kubernetes_schemas():
  command = [checker("python"), "-c", VALIDATE, LAUNCH / "gke_jobset.yaml"]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert subprocess.run([*command, "with a letter wrong"], capture_output=True).returncode  # it would have noticed


def keys(value, at=""):
  """Every path of a YAML document, and of its lists' first elements."""
  if isinstance(value, dict):
    return {path for key, each in value.items() for path in {f"{at}.{key}"} | keys(each, f"{at}.{key}")}
  return keys(value[0], at) if isinstance(value, list) and value else set()


# What XPK's has not: a name for the pods, their job, the file system, and which codes are final rather than which not.
OWN = ("annotations", "volumes", "volumeMounts", "command", "args", "tolerations", "env")


def test_the_jobset_is_built_as_xpk_builds_its_own(tmp_path):
  flags = "--cluster c --workload dalle --tpu-type=v5litepod-16 --num-slices=2 --docker-image=IMAGE"
  flags += " --zone us-east5-a --project p --max-restarts 50 --restart-on-exit-codes 75,86"  # as in launch/README.md
  command = [checker("xpk"), "workload", "create", "--dry-run", *flags.split(), "--command", "dalle train"]
  done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"HOME": str(tmp_path)})
  assert done.returncode == 0, done.stderr
  text = done.stdout[done.stdout.index("apiVersion:") :].split("[XPK]")[0]
  theirs = yaml.safe_load(text)
  (job,) = theirs["spec"]["replicatedJobs"]
  assert (theirs["apiVersion"], theirs["kind"]) == (JOBSET["apiVersion"], JOBSET["kind"])
  assert (job["replicas"], JOBSET["spec"]["failurePolicy"]) == (SLICE["replicas"], theirs["spec"]["failurePolicy"])
  for key in ("parallelism", "completions", "backoffLimit"):
    assert SLICE["template"]["spec"][key] == job["template"]["spec"][key]
  ours, pod = SLICE["template"]["spec"]["template"]["spec"], job["template"]["spec"]["template"]["spec"]
  for key in ("nodeSelector", "restartPolicy", "hostNetwork", "dnsPolicy"):
    assert ours[key] == pod[key]
  assert ours["containers"][0]["resources"] == pod["containers"][0]["resources"]
  unknown = {key for key in keys(JOBSET) - keys(theirs) if not any(f".{own}" in key for own in OWN)}
  assert not unknown
  # A code is final with us where XPK is told not to start again after it.
  (ours,), (rule,) = (each["template"]["spec"]["podFailurePolicy"]["rules"] for each in (SLICE, job))
  assert ours["action"] == rule["action"] == "FailJob"
  assert ours["onExitCodes"] | {"values": 0, "containerName": 0} == {"operator": "In", "values": 0, "containerName": 0}
  assert not set(ours["onExitCodes"]["values"]) & set(rule["onExitCodes"]["values"])
  assert {75, 86, 134, 137, 139} <= set(rule["onExitCodes"]["values"])


SKY = """
import sys, sky
task = sky.Task.from_yaml(sys.argv[1])
(resources,) = task.resources
assert task.num_nodes == 2 and resources.accelerators == {"H100": 8}, resources
recovery = resources.job_recovery
assert recovery["recover_on_exit_codes"] == [75, 86, 134, 137, 139], recovery
assert recovery["max_restarts_on_errors"] == 0, recovery
"""


def test_skypilot_reads_its_file(tmp_path):
  environment = os.environ | {"HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
  command = [checker("python"), "-c", SKY, LAUNCH / "skypilot.yaml"]
  done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
  assert done.returncode == 0, done.stderr


# The variables of SkyPilot's nodes, and what our command makes of them.
def test_skypilot_s_processes_are_told_who_they_are(tmp_path):
  (tmp_path / "dalle/bin").mkdir(parents=True)
  command = tmp_path / "dalle/bin/dalle"
  command.write_text('#!/bin/bash\necho "$JAX_COORDINATOR_ADDRESS $JAX_NUM_PROCESSES $JAX_PROCESS_ID" "$@"\n')
  command.chmod(0o755)
  run = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())["run"]
  told = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
  told |= {"HOME": str(tmp_path), "EXPERIMENT": "experiments/dalle_1b.py", "FLAGS": "--mesh.fsdp 16"}
  done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, env=os.environ | told)
  assert done.stdout == (
    "10.0.0.1:8476 2 1 train experiments/dalle_1b.py --workdir /runs/dalle_1b --data /runs/data --mesh.fsdp 16\n"
  )


RUN = ("experiments/dalle_1b.py", "--workdir", "/runs/a b")
# Google's command, of whose slice and runs a file tells what becomes: a line is taken for each time it is asked.
GCLOUD = r"""#!/bin/bash
echo "$*" >>"$FAKE/calls"
next() { head -n1 "$FAKE/$1" 2>/dev/null; sed -i 1d "$FAKE/$1" 2>/dev/null; }
[[ "$*" == *"${BROKEN:-nothing at all}"* ]] && echo "ERROR: it is broken" >&2 && exit 1
case "$*" in
  *"queued-resources create"*) echo ACTIVE >"$FAKE/state" ;;
  *"queued-resources delete"*) rm -f "$FAKE/state" ;;
  *"queued-resources describe"*)
    cat "$FAKE/state" 2>/dev/null || { echo "ERROR: NOT_FOUND: no such request" >&2 && exit 1; } ;;
  *"cat code"*) cat "$FAKE/code" ;;
  *pkill* | *"rm -f code"*) ;;
  *md5sum*) [ -z "${SAVING-}" ] || date +%N ;;
  *"bin/dalle train"*)
    read -r code after <<<"$(next runs)"
    printf '86\n%s\n' "$code" >"$FAKE/code"
    [ -z "$after" ] || echo "$after" >"$FAKE/state"
    [ "$code" = 0 ] ;;
esac
"""


@pytest.fixture
def cloud(tmp_path):
  """Runs the script where each run ends as told, and returns it with the kinds of calls that it made."""
  (tmp_path / "gcloud").write_text(GCLOUD)
  (tmp_path / "gcloud").chmod(0o755)

  def run(*argv, runs=(), **environment):
    (tmp_path / "runs").write_text("".join(f"{each}\n" for each in runs))
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FAKE": str(tmp_path), "POLL": "0"}
    slice_of = {"NAME": "dalle", "ZONE": "us-west4-a", "TYPE": "v5litepod-16", "VERSION": "v2-alpha-tpuv5-lite"}
    command = ["bash", LAUNCH / "tpu_vm.sh", *argv]
    done = subprocess.run(command, capture_output=True, text=True, env=own | slice_of | environment, timeout=60)
    calls = tmp_path / "calls"
    words = {"queued-resources create": "create", "queued-resources delete": "delete", "tpu-vm scp": "copy"}
    words |= {"bin/dalle train": "train", "pip install": "install", "mount": "mount"}
    lines = [line for line in calls.read_text().splitlines() if "pkill" not in line]
    made = [next((short for long, short in words.items() if long in line), None) for line in lines]
    return done, [each for each in made if each], calls.read_text()

  return run


def test_a_tpu_that_is_taken_away_is_asked_for_again_until_the_run_is_done(cloud):
  runs = ["75", "86", "86 SUSPENDED", "0"]
  done, made, calls = cloud("babysit", *RUN, runs=runs, SPOT="1")
  assert done.returncode == 0, done.stderr
  first = ["create", "copy", "install"]
  assert made == [*first, "train", "train", "train", "delete", *first, "train"]
  assert "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot --zone=us-west4-a" in calls
  assert "train experiments/dalle_1b.py --workdir /runs/a\\ b" in calls


@pytest.mark.parametrize("code", [2, 87, 88])
def test_what_another_start_would_not_help_ends_the_babysitter(cloud, code):
  """Whichever host it happened on: another one's file says 86."""
  done, made, _ = cloud("babysit", *RUN, runs=[code])
  assert (done.returncode, made.count("train")) == (code, 1)


def test_a_run_that_always_fails_is_given_up(cloud):
  done, made, _ = cloud("babysit", *RUN, runs=["86"] * 9)
  assert (done.returncode, made.count("train")) == (86, 6)
  assert "given up after 5 tries in a row without a new checkpoint" in done.stderr


def test_a_run_that_saves_between_its_failures_goes_on(cloud):
  done, made, _ = cloud("babysit", *RUN, runs=["86"] * 9 + ["0"], SAVING="1")
  assert (done.returncode, made.count("train")) == (0, 10)


@pytest.mark.parametrize(
  "broken", ["queued-resources create", "tpu-vm scp", "pip install", "queued-resources describe"]
)
def test_what_always_fails_before_the_run_is_given_up(cloud, broken):
  done, made, _ = cloud("babysit", *RUN, runs=["0"], BROKEN=broken)
  assert (done.returncode, made.count("train")) == (1, 0)
  assert "given up after 5 tries" in done.stderr


def test_a_file_system_is_mounted_where_one_is_named(cloud):
  _, made, calls = cloud("install", FILESTORE="10.0.0.2:/share")
  assert made == ["copy", "install", "mount"]
  assert "mount 10.0.0.2:/share /runs" in calls


@pytest.mark.parametrize(
  ("argv", "environment", "says"),
  [
    ((), {}, "launch/tpu_vm.sh create"),
    (("crate",), {}, "launch/tpu_vm.sh create"),
    (("run",), {}, "launch/tpu_vm.sh create"),
    (("babysit", "demo.py"), {}, "launch/tpu_vm.sh create"),
    (("create",), {"TYPE": ""}, "TYPE is not set: export TYPE="),
    (("delete",), {"NAME": ""}, "NAME is not set"),
  ],
)
def test_mistakes_are_told(cloud, tmp_path, argv, environment, says):
  (tmp_path / "calls").write_text("")
  done, made, _ = cloud(*argv, **environment)
  assert (done.returncode, made) == (2, [])
  assert says in done.stderr
