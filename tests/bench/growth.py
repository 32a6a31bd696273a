"""How cost grows with tokens, layers and threads, as rows with points; with streams: works.py.

A growth row is {"model", "work": "growth NAME", "x", "unit", "points": {side: [[x, median], ...]}}."""
import json
import os
import tempfile

import daemon
import figures
import sides
import works

TOKENS = [16, 128, 512, 1024, 2048]
LAYERS = [2, 6, 12, 24]
FEW_STEPS = 8


def points_row(scene, name, x, unit, measured):
    """measured: {(side, x): figures}."""
    points = {}
    for (side, at), taken in sorted(measured.items()):
        points.setdefault(side, []).append([at, figures.spread(taken)["median"]])
    return {"model": scene.name, "work": f"growth {name}", "x": x, "unit": unit, "points": points}


def with_tokens(scene):
    """Seconds of a prefill, and milliseconds of a token decoded after so many."""
    lengths = TOKENS[:3] if scene.settings.quick else TOKENS
    who = scene.main_sides()
    fed = {(s.name, n): lambda s=s, n=n: s.prefill(scene.prompt(n)) for n in lengths for s in who}
    stepped = {(s.name, n): lambda s=s, n=n: 1e3 * s.decode(scene.prompt(n), FEW_STEPS) / FEW_STEPS for n in lengths for s in who}
    rounds = scene.rounds(2)
    return [points_row(scene, "prefill", "tokens of the prompt", "s",
                       figures.measure(fed, rounds, f"{scene.name} growth prefill", warm=False)[0]),
            points_row(scene, "context", "tokens before", "ms/token",
                       figures.measure(stepped, rounds, f"{scene.name} growth context", warm=False)[0])]


def shortened(folder, layers, into):
    """The model with its first layers only; the files are links."""
    os.mkdir(into)
    for name in os.listdir(folder):
        if name != "config.json":
            os.symlink(os.path.join(os.path.abspath(folder), name), os.path.join(into, name))
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        config = json.load(f) | {"num_hidden_layers": layers}
    with open(os.path.join(into, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)


def decode_of(scene, folder, threads):
    """{side: milliseconds of a token} of samebit and PyTorch, started for it."""
    with daemon.Daemon(folder, scene.numerics, threads) as server, \
            sides.open_torch(scene.settings.torch_python, folder, threads, [scene.attention]) as peer:
        both = [sides.Samebit(server, scene.attention),
                sides.PeerSide(peer, f"PyTorch {scene.attention}", attention=scene.attention)]
        meters = {s.name: lambda s=s: 1e3 * s.decode(scene.prompt(works.PROMPT), works.STEPS) / works.STEPS for s in both}
        return figures.measure(meters, scene.rounds(3), f"{scene.name} growth")[0]


def with_layers(scene):
    measured = {}
    with tempfile.TemporaryDirectory() as work:
        for layers in (n for n in LAYERS if n <= scene.config["num_hidden_layers"]):
            folder = os.path.join(work, str(layers))
            shortened(scene.folder, layers, folder)
            measured |= {(side, layers): f for side, f in decode_of(scene, folder, scene.settings.threads).items()}
    return [points_row(scene, "layers", "layers", "ms/token", measured)]


def with_threads(scene):
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= scene.settings.threads]
    measured = {}
    for n in counts:
        measured |= {(side, n): f for side, f in decode_of(scene, scene.folder, n).items()}
    return [points_row(scene, "threads", "threads", "ms/token", measured)]


GROWTH = {"growth tokens": with_tokens, "growth layers": with_layers, "growth threads": with_threads}
