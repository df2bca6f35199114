"""SLURM on this machine, for the tests of what submits jobs: a controller and two nodes, for as long as a test runs."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from quick import QUICK

# The first node's name is where the processes look for their coordinator, so it has to resolve. A job that was put back
# begins again when its first start's credential has expired, which takes two minutes elsewhere.
CONF = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={dir}/munge.socket,cred_expire=10
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool-%n
SlurmctldPidFile={dir}/controller.pid
SlurmdPidFile={dir}/node-%n.pid
SlurmctldLogFile={dir}/controller.log
SlurmdLogFile={dir}/node-%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=5
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 State=UNKNOWN
NodeName=zz-second NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port():
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def waited_for(what, told=lambda: "", seconds=300):
  until = time.monotonic() + seconds
  while not what():
    assert time.monotonic() < until, told()
    time.sleep(0.05)


@contextlib.contextmanager
def cluster(directory):
  """A controller and two nodes; a function that runs a command that finds them, in `directory` if no other is said."""
  if os.geteuid() or not all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "munged", "mungekey")):
    pytest.skip("needs root and slurmctld, slurmd, slurm-client and munge (apt-get install them)")
  host = socket.gethostname()
  # A socket's path is short, and munge wants a place where no one else may write.
  lab = Path("/tmp") / f"slurm-{os.getpid()}"
  lab.mkdir(mode=0o755)
  for name in ("state", f"spool-{host}", "spool-zz-second"):
    (lab / name).mkdir()
  (lab / "slurm.conf").write_text(CONF.format(dir=lab, host=host, ports=[free_port() for _ in "123"]))
  environment = os.environ | QUICK | {"SLURM_CONF": str(lab / "slurm.conf")}

  def asked(*argv, cwd=directory):
    return subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=cwd, check=False)

  def command(*argv, cwd=directory):
    done = asked(*argv, cwd=cwd)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout

  daemons = []
  try:
    command("mungekey", "--create", "--keyfile", lab / "key")
    munged = ["munged", "--foreground", "--force", f"--key-file={lab}/key", f"--socket={lab}/munge.socket"]
    munged += [f"--pid-file={lab}/munge.pid", f"--log-file={lab}/munge.log", f"--seed-file={lab}/seed"]
    daemons.append(subprocess.Popen(munged, stderr=subprocess.DEVNULL))
    until = time.monotonic() + 30
    while not (lab / "munge.socket").exists():
      assert time.monotonic() < until
      time.sleep(0.05)
    for argv in (["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host], ["slurmd", "-D", "-N", "zz-second"]):
      quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
      daemons.append(subprocess.Popen([*argv, "-f", lab / "slurm.conf"], env=environment, **quiet))
    waited_for(lambda: "idle 2" in asked("sinfo", "-h", "-o", "%T %D").stdout, seconds=60)
    yield command
  finally:
    for daemon in reversed(daemons):
      daemon.terminate()
      daemon.wait()
    shutil.rmtree(lab, ignore_errors=True)
