"""client/run.sh: what `make run` shows, and how it ends."""
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("SAMEBIT_BUILD") or os.path.join(ROOT, "build")
MAKER = os.path.join(ROOT, "tests", "tiny", "make_tiny.py")


@pytest.fixture(scope="module", name="folder")
def a_model(tmp_path_factory):
    out = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, MAKER, out, "tiny-llama"], check=True, capture_output=True)
    return str(out / "tiny-llama")


def start(folder, **environment):
    e = os.environ | {"MODEL": folder, "B": BUILD, "LISTEN": "127.0.0.1:0", "VENV": sys.prefix} | environment
    return subprocess.Popen([os.path.join(ROOT, "client", "run.sh")], cwd=ROOT, env=e, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            start_new_session=True)


def finish(run):
    try:
        return run.communicate(timeout=120)[0]
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)


def anyone_left(run):
    """Is a process of its session alive?"""
    for _ in range(50):
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def read_until(run, text):
    seen = ""
    for line in run.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"ended before {text!r}: {seen}")


def test_what_it_shows(folder):
    run = start(folder, RUN_ONCE="1", PROMPT="The river is")
    text = finish(run)
    assert run.returncode == 0, text
    assert 'The continuation of "The river is"' in text
    likely = text.split("most likely")[1].split("Layer 0")[0]
    assert len(re.findall(r"^ *\d+ +'.*' +-?\d", likely, re.M)) == 5, text
    table = text.split("Layer 0")[1]
    assert "with sdpa attention" in table and "self_attn.weights" not in table, text
    for name in ("input_layernorm", "self_attn.context", "self_attn.o_proj", "mlp.down_proj"):
        assert re.search(rf"^model\.layers\.0\.{name} +\[[\d, ]+\] +BF16 +[0-9a-f]{{64}}$", table, re.M), text
    assert re.search(r"^model\.layers\.0 +\[\d+, 64\] +BF16", table, re.M), text
    assert not anyone_left(run)


@pytest.mark.parametrize("number, to_group", [
    (signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True)])
def test_it_serves_until_it_is_told_to_stop(folder, number, to_group):
    run = start(folder)
    url = re.search(r"Serving on (\S+) until", read_until(run, "Serving on"))[1]
    asked = subprocess.run([os.path.join(BUILD, "samebit"), "generate", "-n", "2", "--url", url, "The"],
                           capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    assert re.search(r"--which-numerics\): (torch-cpu/|none$)", read_until(run, "numerics of PyTorch"), re.M)
    (os.killpg if to_group else os.kill)(run.pid, number)
    text = finish(run)
    assert run.returncode == 0 and text.endswith("stopped\n"), text
    assert not anyone_left(run)


def test_it_can_be_stopped_before_it_is_ready(folder):
    run = start(folder)
    read_until(run, "serving ")
    os.kill(run.pid, signal.SIGTERM)
    finish(run)
    assert run.returncode in (0, 143) and not anyone_left(run)


def test_nothing_is_left_when_it_is_killed(folder):
    run = start(folder)
    read_until(run, "Serving on")
    run.kill()
    finish(run)
    assert not anyone_left(run)


def test_a_port_that_is_taken(folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        run = start(folder, LISTEN=address)
        text = finish(run)
    assert run.returncode == 1 and f"{address} is taken" in text and "LISTEN=" in text


def test_a_model_that_is_none(tmp_path):
    run = start(str(tmp_path))
    assert "no config.json" in finish(run) and run.returncode == 1
    (tmp_path / "config.json").write_text('{"architectures": ["NoSuchModel"]}')
    (tmp_path / "model.safetensors").write_text("")
    run = start(str(tmp_path))
    text = finish(run)
    assert run.returncode == 1 and "samebitd ended before it was ready" in text
    assert not anyone_left(run)
