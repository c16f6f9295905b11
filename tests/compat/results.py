"""What the runs gave, in results/: a file of JSON a suite and version, made by ``make matrix``, read by the pages."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import threading
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import Any

from compat import matrix
from compat.matrix import HERE, Difference
from compat.runs import Job, Run, differing

FOLDER = HERE / "results"
DETAIL = 600
RATIO, SLACK_SECONDS = 1.2, 0.5
_lock = threading.Lock()

Record = dict[str, Any]


def path(job: Job) -> Path:
    """The file that has the job's module."""
    minor = ".".join(job.version.split(".")[:2])
    return FOLDER / f"{job.suite}-{job.loop or minor}.json"


def read(file: Path) -> Record:
    """Its content, empty if it is not there."""
    found: Record = json.loads(file.read_text()) if file.exists() else {}
    return found


def write(file: Path, content: Record) -> None:
    """Sorted, so that a diff shows what changed."""
    FOLDER.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def store(job: Job, record: Record) -> None:
    """Puts the module's record in place of an earlier one."""
    with _lock:
        content = read(path(job))
        content.pop("absent", None)
        content["suite"], content["version"], content["loop"] = job.suite, job.version, job.loop
        content["machine"] = f"{platform.system()} {platform.release()} {platform.machine()}"
        content.setdefault("modules", {})[job.module] = record
        write(path(job), content)


def store_absent(absent: dict[str, str]) -> None:
    """Versions of CPython that the machine does not have."""
    for version, reason in absent.items():
        file = FOLDER / f"cpython-{'.'.join(version.split('.')[:2])}.json"
        if not read(file).get("modules"):
            write(file, {"suite": "cpython", "version": version, "loop": "", "absent": reason})


def record(runs: list[tuple[Run, Run]]) -> Record:
    """What is kept: counts of the last run, the best times of all, every difference that came each time, the others as
    seen once. The sockets are those that the tests make on the kernel: what could have been ours."""
    plain, ours = runs[-1]
    each = [differing(*pair) for pair in runs]
    stable = {name for name in each[-1] if all(name in one for one in each)}
    once = {name: found for one in each for name, found in one.items() if name not in stable}
    skipped: dict[str, list[str]] = defaultdict(list)
    for name, (outcome, detail) in plain.outcomes.items():
        if outcome == "skip":
            skipped[detail].append(name)
    kept: Record = {
        "plain": {
            "counts": plain.counts(),
            "seconds": min(run.seconds for run, _ in runs),
            "cpu": min(run.cpu for run, _ in runs),
            "sockets": dict(sorted(plain.sockets.items())),
            "connects": plain.connects,
        },
        "ours": {
            "counts": ours.counts(),
            "seconds": min(run.seconds for _, run in runs),
            "cpu": min(run.cpu for _, run in runs),
            "packets": ours.packets,
            "connections": ours.connections,
        },
        "runs": len(runs),
        "touched": len(ours.touched),
        "differs": {name: [before, now, detail[-DETAIL:]] for name, (before, now, detail) in each[-1].items()
                    if name in stable},
        "once": {name: [before, now, detail[-DETAIL:]] for name, (before, now, detail) in sorted(once.items())},
        "skipped": {reason: sorted(names) for reason, names in sorted(skipped.items())},
        "not ok on either": sorted(name for name, (outcome, _) in plain.outcomes.items()
                                   if outcome in ("fail", "error", "hang") and name not in each[-1]),
    }  # fmt: skip
    for name, run in (("plain", plain), ("ours", ours)):
        if run.broken:
            kept[name]["broken"] = run.broken
    return kept


def is_slower(plain: float, ours: float) -> bool:
    """Whether ours took more than 1.2 times the kernel's seconds. What is short is not judged by its ratio: the modules
    of ours that come with those that they patch take some 0.1 s once a process, and several times that under load."""
    return ours > RATIO * plain and ours - plain > SLACK_SECONDS


def expected_seconds(job: Job) -> float:
    """As long as it took last time; the longest is begun first."""
    record = read(path(job)).get("modules", {}).get(job.module, {})
    return float(record.get("plain", {}).get("seconds", 60))


def line(record: Record) -> str:
    """For a person who waits."""
    if "absent" in record:
        return str(record["absent"])
    plain, ours = record["plain"], record["ours"]
    total = sum(ours["counts"].values())
    text = (
        f"{plain['counts']} -> {ours['counts']}; {record['touched']} of {total} on the stack; "
        f"{plain['seconds']:.1f} s -> {ours['seconds']:.1f} s (CPU {plain['cpu']:.1f} -> {ours['cpu']:.1f})"
    )
    for key in ("differs", "once"):
        text += "".join(f"\n    {key}: {name}: {o[0]} -> {o[1]}" for name, o in record[key].items())
    text += "".join(
        f"\n    {r} broken: {record[r]['broken'][:200]}" for r in ("plain", "ours") if "broken" in record[r]
    )
    return text


def unlisted(job: Job, record: Record, listed: list[Difference]) -> list[str]:
    """The differences that differences.toml does not list with that outcome; a slow module without a reason."""
    found = []
    for name, (before, now, detail) in record.get("differs", {}).items():
        entries = [entry for entry in listed if entry.covers(name, job.version)]
        if not any(entry.patched in ("any", now) for entry in entries):
            found.append(f"{job.label}: {name}: {before} -> {now}\n{detail}")
    if "absent" not in record:
        plain, ours = record["plain"]["seconds"], record["ours"]["seconds"]
        if is_slower(plain, ours) and not matrix.reasons().of_module("slower", job.module):
            found.append(f"{job.label}: {plain:.1f} s -> {ours:.1f} s")
    for name in ("plain", "ours"):
        if broken := record.get(name, {}).get("broken"):
            found.append(f"{job.label}: {name} came to no end: {broken}")
    return found


def store_programs(junit: list[Path]) -> list[str]:
    """Writes programs.json from pytest's reports: probe, without its parameters: each of its cases. The failed ones."""
    versions = versions_now(matrix.load())
    cases: dict[str, Record] = {}
    for case in (case for file in junit for case in ET.parse(file).iter("testcase")):
        file = case.get("classname", "").replace(".", "/") + ".py"
        name, _, parameters = case.get("name", "").partition("[")
        bad = [tag for tag in ("failure", "error", "skipped") if (case.find(tag)) is not None]
        outcome = {"failure": "failed", "error": "failed", "skipped": "skipped"}[bad[0]] if bad else "passed"
        kept: Record = {"outcome": outcome, "seconds": round(float(case.get("time", 0)), 1)}
        for found in case.iter("property"):  # of the last look at the counters
            text = found.get("value", "")
            kept[found.get("name", "")] = int(text) if text.isdecimal() else text
        if bad and (element := case.find(bad[0])) is not None:
            kept["detail"] = element.get("message", "")[:DETAIL]
        cases.setdefault(f"{file}::{name}", {})[parameters.rstrip("]") or "once"] = kept
    content = {"suite": "programs", "version": "", "loop": "", "probes": cases, "versions": versions}
    write(FOLDER / "programs.json", content)
    return [f"{probe}[{case}]" for probe, each in cases.items() for case, kept in each.items()
            if kept["outcome"] == "failed"]  # fmt: skip


def versions_now(loaded: matrix.Matrix) -> dict[str, str]:
    """Row: the version that this interpreter has, of what the row's version is about; without those that it lacks."""
    found = {}
    for row in loaded.programs + loaded.launches:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            package = row.packages[0].partition("[")[0] if row.packages else None
            found[row.name] = importlib.metadata.version(package) if package else platform.python_version()
    return found


def cases(row: matrix.Row) -> dict[str, Record]:
    """What became of the row's probe on each stack, when it was run last."""
    name, _, parameters = row.probe.partition("[")
    more = parameters.rstrip("]").removeprefix("ours")
    every: dict[str, Record] = read(FOLDER / "programs.json").get("probes", {}).get(name, {})
    found = {stack: every.get(stack + more) for stack in ("ours", "kernel")}
    return {stack: kept for stack, kept in found.items() if kept is not None}


def probes() -> dict[str, Record]:
    """The cases of every probe that was run."""
    found: dict[str, Record] = read(FOLDER / "programs.json").get("probes", {})
    return found
