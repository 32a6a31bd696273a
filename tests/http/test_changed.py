"""A checkpoint that is written to while it is served: what is served is what the digest says, or nothing is."""
import os
import shutil
import time

import pytest
from conftest import PLAIN, TOKENS, Daemon, long_run, post_bytes

ASK = {"tokens": TOKENS, "values": ["*"], "format": "digest"}


def truncate(path):
    os.truncate(path, 4096)


def overwrite(path):
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 2)
        f.write(b"\x3f" * 1000)


def grow(path):
    with open(path, "ab") as f:
        f.write(b"\0")


def replace(path):
    shutil.copy(path, path + ".new")
    os.rename(path + ".new", path)


def replace_by_another(path):
    shutil.copy(path, path + ".new")
    overwrite(path + ".new")
    os.rename(path + ".new", path)


@pytest.fixture
def own(model, tmp_path):
    """A model of the test's own, served."""
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    running = []

    def starter(limits=None, *arguments):
        running.append(Daemon(str(folder), limits, arguments))
        return running[-1], str(folder / "model.safetensors")

    yield starter
    for d in running:
        d.stop()


@pytest.mark.parametrize("change", [truncate, overwrite, grow])
@pytest.mark.parametrize("reuse", [0, 1 << 20])
def test_written_to(own, change, reuse):
    d, path = own({"reuse_bytes": reuse})
    assert d.post("/v1/trace", ASK).status == 200
    change(path)
    for ask, body in (("/v1/trace", ASK), ("/v1/logits", {"tokens": [1]}), ("/v1/generate", {"tokens": [1], "max_tokens": 2})):
        status, _, message = d.post(ask, body).error
        assert status == 503 and "model.safetensors" in message
    assert d.get("/health").error[0] == 503
    assert d.process.poll() is None


@pytest.mark.parametrize("change", [replace, replace_by_another, os.unlink])
def test_another_under_its_name(own, change):
    """What is mapped is still the old one: nothing has changed."""
    d, path = own({"reuse_bytes": 0})
    before = d.post("/v1/trace", ASK).body
    change(path)
    assert d.post("/v1/trace", ASK).body == before
    assert d.get("/health").status == 200


@pytest.mark.parametrize("change", [truncate, overwrite])
def test_during_a_run(own, change):
    """Ends as an error, whatever of the weights it has met."""
    d, path = own(None, *PLAIN)
    s = d.socket(timeout=120)
    s.sendall(post_bytes("/v1/trace", long_run(values=["step_40/logits"], steps=40)))
    time.sleep(0.3)
    change(path)
    got = s.recv(4096)
    assert got.startswith(b"HTTP/1.1 503"), got[:200]
    s.close()
    assert d.process.poll() is None
