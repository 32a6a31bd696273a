"""Where the models of the tests are: folders by name, made or fetched where they are missing.
Standard library only."""
import functools
import os
import subprocess
import sys

import daemon

MAKE_TINY = os.path.join(daemon.ROOT, "tests", "tiny", "make_tiny.py")
FETCH = os.path.join(daemon.ROOT, "configs", "models", "fetch.py")


@functools.cache
def made_names():
    """Names of the models that a script makes out of nothing."""
    return tuple(subprocess.run([sys.executable, MAKE_TINY, "--list"], check=True, capture_output=True,
                                text=True).stdout.split())


def tiny_names():
    return [name for name in made_names() if name.startswith("tiny-")]


def made_folder():
    return os.path.join(daemon.cache_folder(), "tiny")


@functools.cache
def find(name, fetch=True):
    """(folder, None), or (None, why there is none).  fetch: also from the network."""
    if name in made_names():
        out = made_folder()
        done = subprocess.run([sys.executable, MAKE_TINY, out, name], capture_output=True, text=True)
        return (None, done.stderr.strip()) if done.returncode else (os.path.join(out, name), None)
    folder = os.path.join(daemon.cache_folder(), "models", name)
    if not fetch:
        there = os.path.exists(os.path.join(folder, ".complete"))
        return (folder, None) if there else (None, f"{folder} is absent (make run MODEL={name} fetches it)")
    venv = os.environ.get("SAMEBIT_VENV")  # what fetching needs is installed there
    python = os.path.join(venv, "bin", "python") if venv else sys.executable
    done = subprocess.run([python, FETCH, name], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return None, f"{name} could not be fetched"
    return done.stdout.strip(), None
