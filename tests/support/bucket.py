"""A bucket on this machine: Google's storage emulated, with the preconditions of a lease, and every byte kept.

bucket.py PORT serves gs://bucket until it is ended.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from http import HTTPStatus

NAME = "bucket"


def environment(port):
  """What has every client go there."""
  url = f"http://localhost:{port}"
  return {
    "STORAGE_EMULATOR_HOST": url,
    "TENSORSTORE_GCS_HTTP_URL": url,
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
  }


@contextlib.contextmanager
def served():
  """A bucket in a process of its own, and the environment of those who use it."""
  with socket.socket() as found:
    found.bind(("localhost", 0))
    port = found.getsockname()[1]
  server = subprocess.Popen([sys.executable, __file__, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  try:
    _wait_for(f"http://localhost:{port}/", server)
    yield environment(port)
  finally:
    server.kill()
    server.wait()


def _wait_for(url, server, within_s=30):
  end = time.monotonic() + within_s
  while True:
    with contextlib.suppress(OSError), urllib.request.urlopen(url):
      return
    assert server.poll() is None
    assert time.monotonic() < end
    time.sleep(0.05)


def _with_preconditions(handler):
  """A handler that refuses, as Google's does, where the object is of another generation than the caller says."""

  def checked(request, response, storage):
    from gcp_storage_emulator.exceptions import NotFound

    wanted = request.query.get("ifGenerationMatch")
    if wanted:
      named = request.query.get("name") or [request.params.get("object_id") or (request.data or {})["meta"]["name"]]
      try:
        now = storage.get_file_obj(request.params["bucket_name"], named[0])["generation"]
      except NotFound:
        now = 0
      if int(wanted[0]) != int(now):
        response.status = HTTPStatus.PRECONDITION_FAILED
        response.json({"error": {"code": 412, "message": "conditionNotMet"}})
        return
    handler(request, response, storage)

  return checked


def _with_generation(handler):
  """A handler that tells of which generation the bytes are: TensorStore goes by it."""

  def told(request, response, storage, *rest):
    from gcp_storage_emulator.exceptions import NotFound

    with contextlib.suppress(NotFound):
      found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
      response["x-goog-generation"] = found["generation"]
    handler(request, response, storage, *rest)

  return told


def _whole_multipart(read):
  """A reader of requests that leaves a file's last byte alone where that ends a line: the emulator's takes it away."""

  def reread(request_handler, query):
    kind = request_handler.headers.get("Content-Type") or ""
    found = re.match(r'multipart/related.*boundary="?([^";]+)', kind)
    if found is None:
      return read(request_handler, query)
    from gcp_storage_emulator import server

    raw = server._decode_raw_data(server._read_raw_data(request_handler), request_handler)
    boundary = b"--" + found[1].encode()
    end_of_line = b"\r\n" if raw[len(boundary) :].startswith(b"\r\n") else b"\n"
    _, meta, content = raw.split(boundary + end_of_line, 2)
    about = meta.partition(2 * end_of_line)[2]
    head, _, data = content.partition(2 * end_of_line)
    return {
      "meta": json.loads(about),
      "content": data[: data.rindex(end_of_line + boundary + b"--")],
      "content-type": re.search(rb"(?i)content-type: *([^\r\n;]+)", head)[1].decode(),
    }

  return reread


def main():
  from gcp_storage_emulator import server
  from gcp_storage_emulator.handlers import objects

  for name, better in (
    ("insert", _with_preconditions),
    ("delete", _with_preconditions),
    ("download", _with_generation),
  ):
    plain = getattr(objects, name)
    setattr(objects, name, better(plain))
    for _, handlers in server.HANDLERS:
      handlers.update({method: getattr(objects, name) for method, handler in handlers.items() if handler is plain})
  server._read_data = _whole_multipart(server._read_data)
  server.create_server("localhost", int(sys.argv[1]), in_memory=True, default_bucket=NAME).start()
  parent = os.getppid()
  while os.getppid() == parent:
    time.sleep(1)
  os._exit(0)


if __name__ == "__main__":
  main()
