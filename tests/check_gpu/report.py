"""Rows, verdicts, the table and the JSON report; sections run in processes of their own."""
import json
import os
import select
import signal
import subprocess
import tempfile
import threading
import time

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


# ---- programs ----

def descendants(pid):
    """Processes that it started, and those that these did, as far as they still have a parent."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(parent, []).append(int(name))
    found = list(children.get(pid, []))
    for one in found:
        found += children.get(one, [])
    return found


def end_group(pid):
    """Ends a process that leads its group, the group, and what it started in groups of their own."""
    below = descendants(pid)
    for kill, whom in [(os.killpg, pid), *((os.kill, one) for one in below)]:
        try:
            kill(whom, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Program:
    """A program whose lines are read as it writes them, a context manager that ends it with all that
    it started.  It is ended after `seconds` (None: never), and `late` then.  status: when its lines
    are over, None where it was late."""

    def __init__(self, command, seconds=None, environment=None, merged=False):
        """merged: its standard error is part of its lines."""
        self.late, self.status, self.err = False, None, tempfile.TemporaryFile()
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment,
                                      stderr=subprocess.STDOUT if merged else self.err, start_new_session=True)
        self.timer = threading.Timer(max(1.0, seconds or 1.0), self._end_late)
        if seconds is not None:
            self.timer.start()

    def _end_late(self):
        self.late = True
        end_group(self.child.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        end_group(self.child.pid)
        self.child.wait()
        self.child.stdout.close()
        self.err.close()

    def _pieces(self):
        """Its output; what it started and left behind may hold that open when it has ended itself."""
        out = self.child.stdout.fileno()
        while True:
            if select.select([out], [], [], 0.1)[0]:
                piece = os.read(out, 1 << 16)
                if not piece:
                    return
                yield piece
            elif self.child.poll() is not None:
                return

    def lines(self):
        rest = b""
        for piece in self._pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
        if rest:
            yield rest.decode(errors="replace")
        status = self.child.wait()
        self.status = None if self.late else status

    def said(self):
        self.err.seek(0)
        return self.err.read().decode(errors="replace").strip()


def run(command, seconds, environment=None, merged=False):
    """Status (None: out of time), standard output and standard error; nothing is left behind.
    seconds: None has no limit.  merged: both are one, in the order in which they were written."""
    with Program(command, seconds, environment, merged) as program:
        out = "".join(line + "\n" for line in program.lines())
        return program.status, out, program.said()


# ---- sections ----

def streamed(section, command, seconds, harmless=False):
    """Yields the rows of a section that prints one JSON object a line, each as it comes.  One that
    dies, hangs or says nothing ends with a row `failed`; harmless: that row is info.  One that ran
    out of time while it told rows, until the last third of it, has only skipped the rest."""
    count, whole, started, told = 0, True, time.monotonic(), 0.0
    with Program(command, seconds) as program:
        for line in program.lines():
            try:
                found = json.loads(line)
            except ValueError:
                whole = False
                continue
            count, told = count + 1, time.monotonic() - started
            yield found
        if program.status == 0 and count and whole:
            return
        ended = f"out of time ({seconds:.0f} s)" if program.late else f"ended with status {program.status}"
        said = program.said()[-SAID:] or ("" if count else "no rows")
        busy = program.late and told > seconds * 2 / 3
    yield row(section, "section", "skipped" if busy else "info" if harmless else "failed",
              note=f"{ended}, {count} rows told" if busy else f"{ended}: {said}")


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
    """Replaces the file at once: whoever is killed meanwhile leaves the whole one before."""
    passed, failed, skipped = counts(rows)
    part = f"{path}.part"
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(part, "w", encoding="utf-8") as file:
        json.dump({**about, "passed": passed, "failed": failed, "skipped": skipped, "rows": rows}, file, indent=1,
                  ensure_ascii=False)
        file.write("\n")
    os.replace(part, path)
