#!/usr/bin/env python3
"""valgrind's memcheck over the unit tests, and over samebitd from start to stop with a request of every kind.

    python tests/memcheck.py --build build --model FOLDER [--only TEXT]

Exit status 1 where it found an error or memory that nothing points to any more.  Without valgrind: skipped, and said.
"""
import argparse
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import http.client

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "chaos"))
import chaos  # noqa: E402

VALGRIND = ["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite",
            "--num-callers=20"]


def unit(path, model):
    environment = os.environ | {"SAMEBIT_TINY": os.path.dirname(model), "CMOCKA_MESSAGE_OUTPUT": "TAP"}
    done = subprocess.run([*VALGRIND, path], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def daemon(build, model):
    """How it ended, and what valgrind said."""
    with tempfile.TemporaryFile() as said:
        d = subprocess.Popen([*VALGRIND, os.path.join(build, "samebitd"), "--model", model, "--listen", "127.0.0.1:0", "--threads", "2"], cwd=ROOT,
                             stdout=subprocess.PIPE, stderr=said)
        port = int(re.search(rb"127\.0\.0\.1:(\d+)", d.stdout.readline())[1])
        statuses = []
        for method, path, body, headers in chaos.requests(64).values():
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
            c.request(method, path, body, headers)
            reply = c.getresponse()
            reply.read()
            statuses.append(reply.status)
            c.close()
        d.send_signal(signal.SIGTERM)
        status = d.wait(600)
        said.seek(0)
        return status, said.read().decode(errors="replace") + f"statuses {statuses}\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--model", required=True)
    p.add_argument("--only", default="")
    a = p.parse_args()
    if not shutil.which("valgrind"):
        print("skip: valgrind is not installed")
        return 0
    build, bad = os.path.join(ROOT, a.build), 0
    works = [(os.path.basename(b), lambda b=b: unit(b, a.model)) for b in sorted(glob.glob(os.path.join(build, "tests", "unit", "test_*")))]
    works.append(("samebitd", lambda: daemon(build, a.model)))
    for name, work in works:
        if a.only in name:
            status, said = work()
            bad += status != 0
            print(f"{name:<28}{'clean' if status == 0 else f'ended with {status}'}", flush=True)
            if status:
                print(said[-4000:])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
