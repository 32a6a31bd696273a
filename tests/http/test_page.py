"""`--html`: a page of one file, opened in headless Chromium (Debian's `chromium`) where there is one."""
import json
import os
import re
import shutil
import subprocess
import sys

import numpy
import pytest
from client_tools import DIFFERENT, META, SAME, TROUBLE, bf16, samebit, write
from conftest import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "ports"))
from numpy_port import Port  # noqa: E402

CHROMIUM = shutil.which("chromium")
HOSTILE = ['"><script>document.title="taken"</script><!--', "</script><script>document.title='taken'</script>", "a&lt;b]]>", "constructor",
           "__proto__", "model.layers.1.<img src=x onerror=document.title='taken'>", "x\u2028\u202ey", "layers.9999999999.q"]
TOKENS = [72, 101, 300, 900, 5, 17, 44, 200]


def data_of(page):
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    assert len(found) == 1 and text.count("<script") == 2 and text.count("</script>") == 2 and text.endswith("</html>\n")
    return json.loads(found[0])


def dom_of(page, tmp_path, script=""):
    """What the page is once it has drawn itself, and a script has done what a reader might."""
    if not CHROMIUM:
        pytest.skip("skip: no chromium here (apt-get install chromium)")
    copy = tmp_path / "copy.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    done = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/chromium", "--dump-dom", f"file://{copy}"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def two_files(tmp_path):
    names = [f"model.layers.{i}.{n}" for i in range(3) for n in ("input_layernorm", "self_attn.q_proj", "mlp.down_proj")] + ["lm_head", "step_1/model.layers.0.self_attn.q_proj"] + HOSTILE
    one = {n: bf16(6, 16, seed=i) for i, n in enumerate(names)}
    two = dict(one)
    for n in ("model.layers.2.mlp.down_proj", HOSTILE[0], HOSTILE[5]):
        two[n] = one[n] + numpy.uint16(200)
    two["model.layers.1.self_attn.q_proj"] = one["model.layers.1.self_attn.q_proj"] + numpy.uint16(1)
    del two["model.layers.2.input_layernorm"]
    return [write(tmp_path / n, {k: ("BF16", a) for k, a in some.items()}, META) for n, some in (("a", one), ("b", two))]


def test_what_is_in_a_page(tmp_path):
    page = tmp_path / "report.html"
    report = json.loads(samebit("compare", *two_files(tmp_path), "--json", "--html", page, status=DIFFERENT).text)
    data = data_of(page)
    assert [v["name"] for v in data["values"]] == [r["value"] for r in report["rows"]]
    verdicts = {v["name"]: v["verdict"] for v in data["values"]}
    words = {"equal": "equal", "differs": "beyond", "missing_in_b": "missing"}
    assert {n: v for n, v in verdicts.items() if v != "rounding"} == {r["value"]: words[r["verdict"]] for r in report["rows"] if verdicts[r["value"]] != "rounding"}
    assert [n for n, v in verdicts.items() if v == "rounding"] == ["model.layers.1.self_attn.q_proj"]
    value = next(v for v in data["values"] if v["name"] == HOSTILE[0])
    row = next(r for r in report["rows"] if r["value"] == HOSTILE[0])
    assert sum(b[2] for b in value["histogram"]) == row["elements"] == sum(p[0] for p in value["positions"])
    assert dict(value["numbers"])["differing bits"] == f"{row['differing']} of {row['elements']}"
    template = re.sub(r'<script id="data".*?</script>', "", page.read_text(encoding="utf-8"), flags=re.S)
    assert "default-src 'none'" in template and not re.search(r"\b(src|href)=|@import|url\(|fetch\(|innerHTML", template)
    assert oct(page.stat().st_mode & 0o777) == "0o644" and not [p for p in tmp_path.iterdir() if p.name.startswith("report.html.")]


def test_the_page_drawn(tmp_path):
    page = tmp_path / "report.html"
    samebit("compare", *two_files(tmp_path), "--html", page, status=DIFFERENT)
    dom = dom_of(page, tmp_path, """
        const log = [], panel = () => document.querySelector("#panel h2").textContent, key = name =>
            document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
        log.push(document.title, panel());
        const tabs = [...document.querySelectorAll(".cell, .chip")].filter(b => b.tabIndex === 0);
        log.push(tabs.length);
        tabs[0].focus();
        key("ArrowUp"); key("ArrowLeft"); log.push(document.activeElement.dataset.name);
        document.activeElement.click(); log.push(panel());
        key("ArrowDown"); key("ArrowDown"); key("ArrowDown"); log.push(document.activeElement.className.includes("chip"));
        log.push(document.querySelectorAll("img, b").length, document.querySelectorAll("body > script").length);
        document.querySelector("#call").value = "step_1"; document.querySelector("#call").dispatchEvent(new Event("change"));
        log.push(document.querySelectorAll(".cell").length);
        document.querySelector("#call").value = "prompt"; document.querySelector("#call").dispatchEvent(new Event("change"));
        document.body.append(Object.assign(document.createElement("pre"), {id: "log", textContent: JSON.stringify(log)}));""")
    title, first, tabs, moved, panel, chip, injected, scripts, cells = json.loads(
        re.search(r'<pre id="log">(.*?)</pre>', dom, re.S)[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert title == "samebit compare" and tabs == 1 and injected == 0 and scripts == 3 and chip is True and cells == 1
    assert first == "model.layers.2.mlp.down_proj" and moved == panel == "model.layers.1.self_attn.q_proj"
    assert len(re.findall(r'class="cell ', dom)) == 9 + 2 and len(re.findall(r'class="chip ', dom)) == 1 + 6
    for name, word in (("equal", 5 + 1), ("rounding", 1), ("missing", 1), ("beyond", 2)):
        assert len(re.findall(rf'class="(?:cell|chip) {name}', dom)) >= word
    assert 'aria-label="model.layers.2.mlp.down_proj: differs"' in dom and "first divergence: model.layers.1.self_attn.q_proj" in dom


def test_a_diagnosis_drawn(daemon, models, tmp_path):
    url = f"http://{daemon.host}:{daemon.port}"
    port = Port(os.path.join(models, "tiny-qwen2"), "f32", faults=("rope_pairs",), layers=(1,))
    numpy.savez(tmp_path / "d.npz", **{"tokens": numpy.array(TOKENS)} | port.run(TOKENS))
    page = tmp_path / "report.html"
    said = samebit("diagnose", tmp_path / "d.npz", url, "--html", page, status=DIFFERENT).text
    data = data_of(page)
    assert data["command"] == "diagnose" and data["findings"] and set(data["findings"]) <= set(said.splitlines())
    wrong = {v["name"]: v for v in data["values"] if v["verdict"] == "beyond"}
    assert wrong.keys() == {"model.layers.1.self_attn.q_rope", "model.layers.1.self_attn.k_rope"}
    assert all("interleaved" in v["says"][0] and v["heads"] and v["positions"] and v["worst"] for v in wrong.values())
    isolated = tmp_path / "isolate.html"
    samebit("isolate", tmp_path / "d.npz", url, "--html", isolated, status=DIFFERENT)
    assert {v["name"]: v["verdict"] for v in data_of(isolated)["values"]} == {v["name"]: v["verdict"] for v in data["values"]}
    dom = dom_of(page, tmp_path)
    assert len(re.findall(r'class="cell beyond named"', dom)) == 2 and "interleaved pairs" in dom and "Distance by head" in dom


def test_what_cannot_be_written(tmp_path):
    a, b = two_files(tmp_path)
    assert "nowhere" in samebit("compare", a, b, "--html", tmp_path / "nowhere/x.html", status=TROUBLE).said
    (tmp_path / "folder").mkdir()
    samebit("compare", a, b, "--html", tmp_path / "folder", status=TROUBLE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "folder"]
    samebit("compare", a, a, "--html", tmp_path / "same.html", status=SAME)
    assert data_of(tmp_path / "same.html")["same"] is True and data_of(tmp_path / "same.html")["findings"] == []
