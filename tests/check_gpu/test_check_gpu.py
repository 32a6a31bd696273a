"""check-gpu cannot report better than what happened: rows, verdicts, sections that fail, the skip without a GPU."""
import json
import os
import subprocess
import sys
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import check_gpu  # noqa: E402
import check_models  # noqa: E402
import check_ops  # noqa: E402
import hardware  # noqa: E402
import launches  # noqa: E402
import report  # noqa: E402

GOOD = report.compared("ops", "a", 0, 10)
BAD = report.compared("ops", "b", 3, 10, "first: x")


def python(text, seconds=20, harmless=False):
    """A section that is such a program."""
    return report.isolated("s", [sys.executable, "-c", text], seconds, harmless)


# ---- verdicts ----

@pytest.mark.parametrize("differing, elements, promised, verdict", [
    (0, 10, True, "equal"), (1, 10, True, "differs"), (0, 0, True, "failed"), (1, 10, False, "info"), (0, 10, False, "info")])
def test_verdicts(differing, elements, promised, verdict):
    r = report.compared("s", "n", differing, elements, promised=promised)
    assert (r["verdict"], r["differing"], r["elements"]) == (verdict, differing, elements)


@pytest.mark.parametrize("verdicts, status, closing", [
    (["equal", "info", "skipped"], 0, "1 passed, 0 failed, 1 skipped"),
    (["equal", "differs"], 1, "1 passed, 1 failed, 0 skipped"),
    (["failed"], 1, "0 passed, 1 failed, 0 skipped"), (["info"], 0, "0 passed, 0 failed, 0 skipped")])
def test_exit_status(verdicts, status, closing):
    rows = [report.row("s", "n", v) for v in verdicts]
    assert report.exit_status(rows) == status and report.closing(rows) == closing


def test_json_and_table(tmp_path):
    path = tmp_path / "new" / "r.json"
    report.write(path, {"gpu": "G"}, [GOOD, BAD])
    assert json.loads(path.read_text()) == {"gpu": "G", "passed": 1, "failed": 1, "skipped": 0, "rows": [GOOD, BAD]}
    line, = report.lines_of(BAD)
    assert line.split() == ["ops", "b", "differs", "3", "10", "first:", "x"]
    assert report.lines_of(report.row("s", "n", "failed", note="one\ntwo"))[1:] == ["    two"]


# ---- sections ----

SAY = f"import sys; print({json.dumps(GOOD)!r}, flush=True); "


def test_a_section_gives_its_rows():
    assert python(SAY) == [GOOD]


@pytest.mark.parametrize("rest, said", [
    ("raise ValueError('broken')", "broken"), ("sys.stderr.write('last words'); sys.exit(3)", "status 3: last words"),
    ("import os; os.abort()", "status -6"), ("print('no row')", "status 0"),
    ("import time; time.sleep(60)", "out of time")])
def test_a_failing_section_keeps_what_it_found(rest, said):
    first, second = python(SAY + rest, seconds=5 if "sleep" not in rest else 1.5)
    assert first == GOOD and second["verdict"] == "failed" and said in second["note"]


def test_a_silent_section_has_failed():
    r, = python("")
    assert r["verdict"] == "failed" and "no rows" in r["note"]


def test_a_harmless_section_cannot_fail():
    r, = python("raise ValueError('broken')", harmless=True)
    assert r["verdict"] == "info" and "broken" in r["note"]


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_is_left_behind(tmp_path):
    pid = tmp_path / "pid"
    python(f"import subprocess; p = subprocess.Popen(['sleep', '100']); open({str(pid)!r}, 'w').write(str(p.pid))")
    until = time.monotonic() + 10  # what was killed takes a moment to end
    while runs(pid.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not runs(pid.read_text())


@pytest.mark.parametrize("broken, status", [(("two",), 1), ((), 0)])
def test_the_others_go_on(tmp_path, monkeypatch, capsys, broken, status):
    monkeypatch.setattr(check_gpu, "SECTIONS", {n: (None, 20) for n in ("one", "two", "three")})
    monkeypatch.setattr(check_gpu, "make_models", lambda: None)
    monkeypatch.setattr(check_gpu, "facts_and_rows", lambda settings: ({"gpu": "G"}, []))
    monkeypatch.setattr(check_gpu, "child", lambda settings, name: [
        sys.executable, "-c", "raise SystemExit('broken')" if name in broken else SAY])
    monkeypatch.setenv("SAMEBITD", "")
    assert check_gpu.main(["--out", str(tmp_path / "r.json")]) == status
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert [r["verdict"] for r in rows] == ["equal", "failed" if broken else "equal", "equal"]
    assert capsys.readouterr().out.splitlines()[-1] == report.closing(rows)


def test_a_section_that_cannot_be_loaded_fails_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "hardware", None)
    with pytest.raises(ImportError):
        check_gpu.SECTIONS["hardware"][0](None)


# ---- what programs say ----

OUTPUT = """[==========] Running 5 test(s).
[ RUN      ] test_embedding
embedding: 6 cases, 48 runs, 245088 elements, 0 differing
[       OK ] test_embedding
[ RUN      ] test_rotary
ERROR: rotary : torch-cpu/avx512_bf16, order 0: 6 of 7 elements differ
[  ERROR   ] --- [   LINE   ] --- test_cuda_ops.c:158: error: Failure!
[  FAILED  ] test_rotary
[ RUN      ] test_linear
[       OK ] test_linear
[ RUN      ] test_sdpa
ERROR: sdpa: no kernel for torch-cpu/avx512_bf16
[  FAILED  ] test_sdpa
[ RUN      ] test_add
[  SKIPPED ] test_add
[ RUN      ] test_large_products
large products: 8 cases, 16 runs, 11703200 elements, 0 differing
[       OK ] test_large_products
[  FAILED  ] 2 test(s), listed below:
[  FAILED  ] test_rotary
"""


def test_test_cuda_ops_output():
    found = check_ops.parse(OUTPUT)
    assert found["embedding"] == ("equal", 0, 245088, "6 cases")
    assert found["rotary"][:3] == ("differs", 6, 7) and "order 0" in found["rotary"][3]
    assert found["linear"][0] == "failed", "it counted nothing"
    assert found["sdpa"][0] == "failed" and "no kernel" in found["sdpa"][3]
    assert found["add"][0] == "failed", "there is a GPU: nothing may skip"
    assert found["large_products"][:3] == ("equal", 0, 11703200)


@pytest.mark.parametrize("status, said", [(None, "out of time"), (-11, "status -11")])
def test_every_operation_has_a_row(status, said):
    rows = {r["name"]: r for r in check_ops.cpu_rows(OUTPUT, status)}
    assert len(rows) == len(check_ops.operations()) + 1 >= 16
    assert rows["torch-cpu silu"]["verdict"] == "failed" and said in rows["torch-cpu silu"]["note"]


def test_probe_output():
    r, = hardware.probe_rows("ex2.approx from 0.5\t12\t8388608\tat most 1 units\n")
    assert (r["verdict"], r["differing"], r["elements"]) == ("info", 12, 8388608)


PASSED = "[  PASSED  ] 1 test(s).\n"


@pytest.mark.parametrize("status, text, verdict", [
    (0, PASSED + "========= ERROR SUMMARY: 0 errors\n", "equal"),
    (0, PASSED + "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n", "equal"),
    (9, PASSED + "========= ERROR SUMMARY: 4 errors\n", "failed"),
    (0, "[  SKIPPED ] 1\n========= ERROR SUMMARY: 0 errors\n", "failed"),
    (0, PASSED + "========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)\n", "failed"),
    (None, "", "skipped"), (None, "========= ERROR SUMMARY: 1 error\n", "failed"), (1, "no device", "failed"), (0, "", "failed")])
def test_sanitizer_output(status, text, verdict):
    assert hardware.sanitizer_row("memcheck", status, text)["verdict"] == verdict


def test_nsys_output():
    text = ("Processing\nStart (ns),Duration (ns),Name\n1,2,[CUDA memcpy Host-to-Device]\n3,4,\"gemm<int, 2>(Params)\"\n"
            "5,6,split(float *)\n7,8,[CUDA memcpy Device-to-Host]\n9,1,other\n2,3,[CUDA memcpy Device-to-Host]\n")
    assert launches.groups(text) == ["gemm<int, 2>, split", "other"]


def test_digests():
    want = {"a": ("1", [2, 3]), "b": ("2", [4])}
    assert check_models.digest_row("n", want, dict(want))["verdict"] == "equal"
    r = check_models.digest_row("n", want, {"a": ("1", [2, 3]), "b": ("3", [4])})
    assert (r["verdict"], r["differing"], r["elements"]) == ("differs", 4, 10) and "first b" in r["note"]
    assert check_models.digest_row("n", want, {"a": ("1", [2, 3])})["verdict"] == "differs"
    assert check_models.digest_row("n", want, want | {"c": ("1", [1])})["verdict"] == "differs"
    assert check_models.digest_row("n", {}, {})["verdict"] == "failed"


def test_traces():
    result = {"values": 2, "elements": 10, "differing": 0, "differing_values": 0, "found": [], "problems": []}
    assert check_models.traced_row("n", result, True)["verdict"] == "equal"
    found = {"name": "lm_head", "index": [0, 1], "server": 1.0, "pytorch": 2.0}
    wrong = result | {"differing": 1, "differing_values": 1, "found": [found]}
    r = check_models.traced_row("n", wrong, True)
    assert r["verdict"] == "differs" and "first lm_head[0, 1]" in r["note"]
    assert check_models.traced_row("n", wrong, False)["verdict"] == "info"
    assert check_models.traced_row("n", result | {"problems": ["tokens"]}, True)["verdict"] == "failed"


# ---- without a GPU ----

@pytest.mark.parametrize("says", [None, "exit 9", "echo 'No devices found.'"])
def test_without_a_gpu(tmp_path, says):
    """No nvidia-smi, one that fails, one that lists none: nothing is built or installed."""
    for name in ("sh", "dirname", "grep", "env"):
        os.symlink(os.path.join("/bin" if os.path.exists(f"/bin/{name}") else "/usr/bin", name), tmp_path / name)
    if says:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    done = subprocess.run(["/bin/sh", os.path.join(HERE, "check_gpu.sh"), str(tmp_path / "cache")],
                          env={"PATH": str(tmp_path), "MAKE": "false"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "skip: no NVIDIA GPU here\n0 passed, 0 failed, 1 skipped\n")
    assert not (tmp_path / "cache").exists()


def test_with_a_gpu_it_builds(tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: some (UUID: x)'\n")
    (tmp_path / "make").write_text('#!/bin/sh\necho "$@"; exit 7\n')
    for name in ("nvidia-smi", "make"):
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(["/bin/sh", os.path.join(HERE, "check_gpu.sh"), str(tmp_path / "cache")], capture_output=True,
                          text=True, env={"PATH": f"{tmp_path}:/bin:/usr/bin", "MAKE": str(tmp_path / "make")})
    assert done.returncode == 7 and "CUDA=1" in done.stdout and "build/cuda/tests/check_gpu/probe" in done.stdout
