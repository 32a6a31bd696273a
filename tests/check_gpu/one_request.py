"""samebitd under another program, which answers one request and is stopped.

    one_request.py MODEL_FOLDER NUMERICS REQUEST PROGRAM [ARGUMENT ...]      SAMEBITD names the daemon

PROGRAM ARGUMENT ... samebitd ... is run; its output is ours, and so is its exit status.
"""
import json
import os
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "parity"))

import daemon  # noqa: E402
import report  # noqa: E402


def stop(process):
    """As an operator would: what is told to end is samebitd, which may be a child of the program."""
    for pid in [process.pid] + report.descendants(process.pid):
        try:
            if os.path.samefile(f"/proc/{pid}/exe", daemon.BINARY):
                os.kill(pid, 15)
                return
        except OSError:
            continue
    process.terminate()


def ask(address, request):
    """The names of the values that came."""
    server = daemon.Daemon.__new__(daemon.Daemon)  # one that runs already
    server.address = address
    until = time.monotonic() + daemon.READY_SECONDS
    while server.request("GET", "/health")[0] != 200 and time.monotonic() < until:
        time.sleep(0.05)
    return list(server.json("/v1/trace", request)["values"])


def main(folder, numerics, request, *program):
    process = subprocess.Popen([*program, daemon.BINARY, "--model", folder, "--listen", "127.0.0.1:0", "--numerics", numerics,
                                "--device", "cuda:0"], cwd=daemon.ROOT, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        print(line, end="", flush=True)
        if found := re.search(r"listening on http://([\d.]+):(\d+)", line):
            rest = threading.Thread(target=lambda: sys.stdout.writelines(process.stdout))
            rest.start()
            print(f"answered: {len(ask((found[1], int(found[2])), json.loads(request)))} values", flush=True)
            stop(process)
            rest.join()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
