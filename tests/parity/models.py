"""Where the models of the tests are: folders by name, made or fetched where they are missing.
Standard library only."""
import functools
import json
import os
import shutil
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


FACTORS = [1 + i / 16 for i in range(32)]  # of longrope: a number for each pair of a head_dim of 64
# Models that are others with keys of config.json replaced.  Their lengths are such that a prompt of 17 tokens and its
# decode steps go beyond them.
VARIANTS = {
    "qwen2.5-0.5b-yarn": ("qwen2.5-0.5b-random", {"rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}}),
    "qwen2.5-0.5b-dynamic": ("qwen2.5-0.5b-random", {"max_position_embeddings": 20, "rope_scaling": {
        "rope_type": "dynamic", "factor": 2.0}}),
    "qwen2.5-0.5b-longrope": ("qwen2.5-0.5b-random", {"original_max_position_embeddings": 20, "rope_scaling": {
        "rope_type": "longrope", "factor": 32.0, "short_factor": FACTORS, "long_factor": [4 * f for f in FACTORS]}}),
    # no mask slides, but the cache does
    "tiny-llama-window": ("tiny-llama", {"sliding_window": 8}),
    "tiny-gemma-chunks": ("tiny-gemma", {"attention_chunk_size": 8}),
    "tiny-mistral-chunks": ("tiny-mistral", {"sliding_window": None, "attention_chunk_size": 8}),
}


def make_variant(name):
    """A folder of links to another model's files, with a config.json of its own."""
    base, changes = VARIANTS[name]
    folder, why = find(base)
    if not folder:
        return None, why
    out = os.path.join(daemon.cache_folder(), "variants", name)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    for file in os.listdir(folder):
        if file != "config.json":
            os.symlink(os.path.join(folder, file), os.path.join(out, file))
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config | changes, file)
    return out, None


@functools.cache
def find(name, fetch=True):
    """(folder, None), or (None, why there is none).  fetch: also from the network."""
    if name in VARIANTS:
        return make_variant(name)
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
