"""check-gpu cannot report better than what happened: rows, verdicts, sections that fail, the skip without a GPU."""
import json
import os
import shutil
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
import programs  # noqa: E402
import report  # noqa: E402
import yardstick  # noqa: E402

GOOD = report.compared("ops", "a", 0, 10)
BAD = report.compared("ops", "b", 3, 10, "first: x")


def python(text, seconds=20, harmless=False):
    """A section that is such a program."""
    return list(report.streamed("s", [sys.executable, "-c", text], seconds, harmless))


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


def test_a_busy_section_that_is_cut_off_has_not_failed():
    *rows, last = python(SAY + "import time\nwhile True: time.sleep(.1); " + SAY.split("; ", 1)[1], seconds=1.5)
    assert len(rows) > 3 and last["verdict"] == "skipped" and "out of time" in last["note"]


def test_a_silent_section_has_failed():
    r, = python("")
    assert r["verdict"] == "failed" and "no rows" in r["note"]


def test_rows_come_as_they_are_known():
    rows = report.streamed("s", [sys.executable, "-c", SAY + "import time; time.sleep(60)"], 30)
    started = time.monotonic()
    assert next(rows) == GOOD
    rows.close()
    assert time.monotonic() - started < 20


def test_a_harmless_section_cannot_fail():
    r, = python("raise ValueError('broken')", harmless=True)
    assert r["verdict"] == "info" and "broken" in r["note"]


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("apart", [False, True])
def test_nothing_is_left_behind(tmp_path, apart):
    """apart: a process in a session of its own, of a section that is stopped."""
    pid, started = tmp_path / "pid", time.monotonic()
    python(f"import subprocess, time; p = subprocess.Popen(['sleep', '100'], start_new_session={apart}); "
           f"open({str(pid)!r}, 'w').write(str(p.pid)); time.sleep({60 * apart})", seconds=20 - 18 * apart)
    assert time.monotonic() - started < 15
    until = time.monotonic() + 10  # what was killed takes a moment to end
    while runs(pid.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not runs(pid.read_text())


def scripted(monkeypatch, **sections):
    """check_gpu whose sections are such programs, each of at most 20 s."""
    monkeypatch.setattr(check_gpu, "SECTIONS", {n: (None, 20) for n in sections})
    monkeypatch.setattr(check_gpu, "make_models", lambda: None)
    monkeypatch.setattr(check_gpu, "child", lambda settings, name: [sys.executable, "-c", sections[name]])
    monkeypatch.setenv("SAMEBITD", "")


@pytest.mark.parametrize("broken, status", [("raise SystemExit('broken')", 1), (SAY, 0)])
def test_the_others_go_on(tmp_path, monkeypatch, capsys, broken, status):
    scripted(monkeypatch, one=SAY, two=broken, three=SAY)
    assert check_gpu.main(["--out", str(tmp_path / "r.json")]) == status
    found = json.loads((tmp_path / "r.json").read_text())
    assert [r["verdict"] for r in found["rows"]] == ["equal", "failed" if status else "equal", "equal"]
    assert list(found["seconds"]) == ["one", "two", "three"]
    assert capsys.readouterr().out.splitlines()[-1] == report.closing(found["rows"])


def test_all_sections_have_one_limit(tmp_path, monkeypatch):
    """The second is cut off, for the third no time is left; the clock began before the program did."""
    scripted(monkeypatch, one=SAY, two=SAY + "import time; time.sleep(60)", three=SAY)
    started = time.time()
    check_gpu.main(["--out", str(tmp_path / "r.json"), "--seconds", "54", "--started", str(started - 50)])
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert [r["verdict"] for r in rows] == ["equal", "equal", "failed", "skipped"] and time.time() - started < 20
    assert "out of time" in rows[2]["note"] and "no time is left" in rows[3]["note"]


KILLED = """import os, sys
sys.path.insert(0, {here!r})
import check_gpu
check_gpu.SECTIONS = {{n: (None, 20) for n in "abcdef"}}
check_gpu.make_models = lambda: None
ROW = "import json, time; " + ("time.sleep(.1); print(json.dumps(" + repr({good!r}) + "), flush=True); ") * 5
check_gpu.child = lambda settings, name: [sys.executable, "-c", ROW]
sys.exit(check_gpu.main(["--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("seconds, number", [(0.2, 9), (0.5, 9), (0.8, 15), (1.1, 9), (1.5, 15)])
def test_killed_at_any_time_the_report_has_all_rows_until_then(tmp_path, seconds, number):
    out = tmp_path / "r.json"
    with open(tmp_path / "said", "w+") as said:
        child = subprocess.Popen([sys.executable, "-c", KILLED.format(here=HERE, good=GOOD), str(out)], stdout=said)
        while not out.exists():
            time.sleep(0.01)
        time.sleep(seconds)
        child.send_signal(number)
        child.wait()
        shown = sum(line.startswith("ops ") for line in open(tmp_path / "said"))
    rows = json.loads(out.read_text())["rows"]
    assert 0 <= len(rows) - shown <= 1 and all(r == GOOD for r in rows)


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


def cpu_rows(text, ending):
    return {r["name"].removeprefix("torch-cpu "): r for r in check_ops.cpu_rows(text.splitlines(), lambda: ending, check_ops.operations() + ["large_products"])}


def test_test_cuda_ops_output():
    found = cpu_rows(OUTPUT, "ended")
    assert (found["embedding"]["verdict"], found["embedding"]["elements"]) == ("equal", 245088)
    r = found["rotary"]
    assert (r["verdict"], r["differing"], r["elements"]) == ("differs", 6, 7) and "order 0" in r["note"]
    assert found["linear"]["verdict"] == "failed", "it counted nothing"
    assert found["sdpa"]["verdict"] == "failed" and "no kernel" in found["sdpa"]["note"]
    assert found["add"]["verdict"] == "failed", "there is a GPU: nothing may skip"
    assert (found["large_products"]["verdict"], found["large_products"]["elements"]) == ("equal", 11703200)


def test_every_operation_has_a_row():
    rows = cpu_rows(OUTPUT, "ended with status -11")
    assert len(rows) == len(check_ops.operations()) + 1 >= 16
    assert rows["silu"]["verdict"] == "failed" and "status -11" in rows["silu"]["note"]


def test_rows_of_an_operation_come_before_the_next():
    lines = iter(OUTPUT.splitlines())
    next(check_ops.cpu_rows(lines, lambda: "", []))
    assert next(lines) == "[ RUN      ] test_rotary"


def test_units_output():
    rows = list(programs.unit_rows("units", "p", OUTPUT.splitlines()))
    assert [r["verdict"] for r in rows] == ["equal", "failed", "equal", "failed", "failed", "equal"]
    assert "6 of 7" in rows[1]["note"] and "skipped" in rows[4]["note"]


def test_tests_of_pytest_have_rows(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_good(): pass\ndef test_bad(): assert 1 == 2\ndef test_none(): pytest.skip('why')\n"
        "@pytest.fixture\ndef broken(): raise ValueError('setup')\ndef test_broken(broken): pass\n")
    read, write = os.pipe()
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_rows", str(tmp_path)],
                   stdout=subprocess.DEVNULL, pass_fds=[write], cwd=tmp_path,
                   env={**os.environ, "CHECK_GPU_ROWS": str(write), "PYTHONPATH": HERE})
    os.close(write)
    rows = [json.loads(line) for line in os.fdopen(read)]
    assert [r["verdict"] for r in rows] == ["equal", "failed", "skipped", "failed"]
    assert "1 == 2" in rows[1]["note"] and rows[2]["note"] == "why" and "setup" in rows[3]["note"]


# ---- what is compared with ----

@pytest.mark.parametrize("torch, cuda, transformers, promised", [
    ("2.13.0+cu130", "13.0", "5.18.0", True), ("2.11.0+cu130", "13.0", "5.17.0", True), ("2.11.0", "13.0", "5.17.2", True),
    ("2.12.0+cu130", "13.0", "5.18.0", False), ("2.13.0+cu128", "12.8", "5.18.0", False),
    ("2.13.0+cu130", "13.0", "5.19.0", False), ("2.13.0+cpu", "", "5.18.0", False)])
def test_yardsticks(torch, cuda, transformers, promised):
    assert yardstick.promised(torch, cuda, transformers) == promised


def test_the_library_must_be_the_same_file(tmp_path):
    """A copy is another file; what a process has mapped is what counts."""
    source = os.path.realpath(next(line.split()[-1] for line in open("/proc/self/maps") if "/libc.so" in line or "/libc-" in line))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(source, tmp_path / name / "libcublas.so.13")
    child = subprocess.Popen([sys.executable, "-c", f"import mmap; f = open({str(tmp_path / 'a/libcublas.so.13')!r}, 'rb'); "
                              "m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); print(1, flush=True); input()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    found = yardstick.mapped(child.pid)
    child.communicate(b"\n")
    assert found == {"libcublas": str(tmp_path / "a/libcublas.so.13")} and yardstick.folders(found) == [str(tmp_path / "a")]
    rows = [yardstick.library_row("libcublas", theirs, found["libcublas"])
            for theirs in (found["libcublas"], str(tmp_path / "b/libcublas.so.13"), None)]
    assert [r["verdict"] for r in rows] == ["equal", "failed", "failed"]


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
    (0, "answered: 3 values\n========= ERROR SUMMARY: 0 errors\n", "failed"),
    (None, "", "skipped"), (None, "========= ERROR SUMMARY: 1 error\n", "failed"), (1, "no device", "failed"), (0, "", "failed")])
def test_sanitizer_output(status, text, verdict):
    assert hardware.sanitizer_row("memcheck", status, text)["verdict"] == verdict


def test_sanitizer_of_the_daemon():
    text = "answered: 3 values\n========= ERROR SUMMARY: 0 errors\n"
    assert hardware.sanitizer_row("memcheck", 0, text, "answered:")["verdict"] == "equal"
    assert hardware.sanitizer_row("memcheck", 0, text[20:], "answered:")["verdict"] == "failed"


def test_nsys_output():
    text = ("Processing\nStart (ns),Duration (ns),Name\n1,2,[CUDA memcpy Host-to-Device]\n3,4,\"gemm<int, 2>(Params)\"\n"
            "5,6,split(float *)\n7,8,[CUDA memcpy Device-to-Host]\n9,1,other\n2,3,[CUDA memcpy Device-to-Host]\n")
    assert launches.groups(text) == ["gemm<int, 2>, split", "other"]


def test_digests():
    want = {"a": ("1", [2, 3]), "b": ("2", [4])}
    assert check_models.digest_row("s", "n", want, dict(want))["verdict"] == "equal"
    r = check_models.digest_row("s", "n", want, {"a": ("1", [2, 3]), "b": ("3", [4])})
    assert (r["verdict"], r["differing"], r["elements"]) == ("differs", 4, 10) and "first b" in r["note"]
    assert check_models.digest_row("s", "n", want, {"a": ("1", [2, 3])})["verdict"] == "differs"
    assert check_models.digest_row("s", "n", want, want | {"c": ("1", [1])})["verdict"] == "differs"
    assert check_models.digest_row("s", "n", {}, {})["verdict"] == "failed"


def test_traces():
    result = {"values": 2, "elements": 10, "differing": 0, "differing_values": 0, "found": [], "problems": []}
    assert check_models.traced_row("s", "n", result, True)["verdict"] == "equal"
    found = {"name": "lm_head", "index": [0, 1], "server": 1.0, "pytorch": 2.0}
    wrong = result | {"differing": 1, "differing_values": 1, "found": [found]}
    r = check_models.traced_row("s", "n", wrong, True)
    assert r["verdict"] == "differs" and "first lm_head[0, 1]" in r["note"]
    assert check_models.traced_row("s", "n", wrong, False)["verdict"] == "info"
    assert check_models.traced_row("s", "n", result | {"problems": ["tokens"]}, True)["verdict"] == "failed"


def test_the_first_divergence_is_named():
    seen = check_models.Divergence()
    assert "nothing" in seen.row("s", "m")["note"]
    for run, name in (("1 token", ""), ("5 tokens", "b"), ("17 tokens", "a")):
        seen.see(run, name)
    assert seen.row("s", "m")["note"] == "b (5 tokens)"


# ---- without a GPU ----

@pytest.mark.parametrize("says", [None, "exit 9", "echo 'No devices found.'"])
def test_without_a_gpu(tmp_path, says):
    """No nvidia-smi, one that fails, one that lists none: nothing is built or installed."""
    for name in ("sh", "dirname", "grep", "env", "date", "sed"):
        os.symlink(os.path.join("/bin" if os.path.exists(f"/bin/{name}") else "/usr/bin", name), tmp_path / name)
    if says:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    done = subprocess.run(["/bin/sh", os.path.join(HERE, "check_gpu.sh"), str(tmp_path / "cache")],
                          env={"PATH": str(tmp_path), "MAKE": "false"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "skip: no NVIDIA GPU here\n0 passed, 0 failed, 1 skipped\n")
    assert not (tmp_path / "cache").exists()


def machine(tmp_path, torch="13.0", capability="9.0", python=True):
    """A folder of programs like those of a machine with a GPU; make and the check's Python tell how they were called."""
    scripts = {"nvidia-smi": f"case $1 in -L) echo 'GPU 0: some (UUID: x)';; *) echo {capability};; esac",
               "make": 'echo "make $@"; exit 7',
               "python": "case $1 in *yardstick.py) " + (f"echo /torch/nvidia/cu13/lib;; *) echo check {'{'}$LD_LIBRARY_PATH{'}'}"
                                                         ' "$@";; esac' if python else "exit 1;; esac")}
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:/bin:/usr/bin", "MAKE": str(tmp_path / "make"), "PYTHON": str(tmp_path / "python")}


def check(tmp_path, *arguments, **environment):
    return subprocess.run(["/bin/sh", os.path.join(HERE, "check_gpu.sh"), str(tmp_path / "cache"), *arguments],
                          capture_output=True, text=True, env=environment)


def bundle_of(tmp_path, **facts):
    sources = subprocess.run([os.path.join(HERE, "sources.sh")], capture_output=True, text=True, check=True).stdout.strip()
    os.makedirs(tmp_path / "bundle/programs")
    (tmp_path / "bundle/programs/about").write_text("".join(f"{k}={v}\n" for k, v in ({"sm": "90", "sources": sources} | facts).items()))
    return str(tmp_path / "bundle")


def test_with_a_gpu_it_builds_against_pytorchs_libraries(tmp_path):
    done = check(tmp_path, BUNDLE="/nowhere", **machine(tmp_path))
    assert done.returncode == 7 and "CUDA=1 CUBLAS=/torch/nvidia/cu13 " in done.stderr
    assert "build/cuda/tests/check_gpu/probe" in done.stderr


def test_a_bundle_needs_no_building(tmp_path):
    done = check(tmp_path, "--only", "ops", BUNDLE=bundle_of(tmp_path), OUT="/out", **machine(tmp_path))
    assert done.returncode == 0 and "make" not in done.stderr
    said = done.stdout.split()
    assert said[:2] == ["check", "{/torch/nvidia/cu13/lib}"] and said[-2:] == ["--only", "ops"]
    assert said[said.index("--build") + 1] == str(tmp_path / "bundle/programs")
    assert said[said.index("--out") + 1] == "/out/check_gpu.json"


@pytest.mark.parametrize("facts, capability, why", [({}, "10.0", "sm_100"), ({"sources": "old"}, "9.0", "other sources")])
def test_a_bundle_for_something_else_is_not_used(tmp_path, facts, capability, why):
    done = check(tmp_path, BUNDLE=bundle_of(tmp_path, **facts), **machine(tmp_path, capability=capability))
    assert done.returncode == 7 and why in done.stderr and "make " in done.stderr
