"""Rows, verdicts, the table and the JSON report; sections run in processes of their own."""
import json
import os
import signal
import subprocess
import tempfile

VERDICTS = ("equal", "differs", "info", "skipped", "failed")
SAID = 1500  # characters of what a section said before it failed


def row(section, name, verdict, differing=0, elements=0, note=""):
    assert verdict in VERDICTS, verdict
    return {"section": section, "name": name, "verdict": verdict, "differing": int(differing),
            "elements": int(elements), "note": note}


def compared(section, name, differing, elements, note="", promised=True):
    """A row of a comparison; one that promises no bits is info.  Nothing compared is a failure."""
    if not promised:
        return row(section, name, "info", differing, elements, note)
    if not elements:
        return row(section, name, "failed", 0, 0, note or "nothing was compared")
    return row(section, name, "differs" if differing else "equal", differing, elements, note)


# ---- sections ----

def end_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(command, seconds, environment=None, merged=False):
    """Status (None: out of time), standard output and standard error; nothing is left behind.
    seconds: None has no limit.  merged: both are one, in the order in which they were written."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT if merged else err, env=environment, start_new_session=True)
        try:
            status = child.wait(seconds and max(1.0, seconds))
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_group(child.pid)
            child.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        return status, *texts


def isolated(section, command, seconds, harmless=False):
    """Rows of a section that prints one JSON object a line.  One that dies, hangs or says nothing
    gets a row `failed`, what it had found stays; harmless: that row is info."""
    status, out, err = run(command, seconds)
    rows, whole = [], True
    for line in out.splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            whole = False
    if status == 0 and rows and whole:
        return rows
    ended = f"out of time ({seconds:.0f} s)" if status is None else f"ended with status {status}"
    said = err.strip()[-SAID:] or ("" if rows else "no rows")
    return rows + [row(section, "section", "info" if harmless else "failed", note=f"{ended}: {said}")]


# ---- the report ----

def counts(rows):
    """passed, failed, skipped; info is none of them."""
    tally = {v: sum(r["verdict"] == v for r in rows) for v in VERDICTS}
    return tally["equal"], tally["differs"] + tally["failed"], tally["skipped"]


def exit_status(rows):
    return 1 if counts(rows)[1] else 0


def lines_of(r):
    """A row as the table has it; the note's further lines, which are an error's, below it."""
    first, *rest = r["note"].strip().splitlines() or [""]
    if r["elements"] or r["differing"]:
        figures = f"{r['differing']:>11,} {r['elements']:>13,}"
    else:
        figures = f"{'':>11} {'':>13}"
    line = f"{r['section']:<10} {r['name']:<52} {r['verdict']:<8} {figures}  {first}"
    return [line.rstrip()] + ["    " + text for text in rest]


HEADING = f"{'section':<10} {'name':<52} {'verdict':<8} {'differing':>11} {'elements':>13}  note"


def closing(rows):
    return "{} passed, {} failed, {} skipped".format(*counts(rows))


def write(path, about, rows):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    passed, failed, skipped = counts(rows)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**about, "passed": passed, "failed": failed, "skipped": skipped, "rows": rows}, file, indent=1,
                  ensure_ascii=False)
        file.write("\n")
