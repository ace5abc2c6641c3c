"""Turns samples into the Markdown table: facts of the machine, targets met or not, every figure. Measures nothing."""

import datetime
import os
import platform
import subprocess
from collections import namedtuple
from statistics import median

from tools import TOOLS

RAW, FIND, COPY = "(raw write, fsync)", "(find -printf)", "(cp -a)"
MIB = 1 << 20

Target = namedtuple("Target", "what aim figure met")


def markdown(bench, facts, options):
    title = f"# maimo beside its peers, {datetime.datetime.now():%Y-%m-%d %H:%M}"
    parts = [title, facts, setting(bench, options)]
    if bench.failures:
        lines = [f"- **FAILED**: {tool} on {dataset}, round {number + 1}: {text}" for dataset, tool, number, text in bench.failures]
        parts.append("## Failures: what these tools took in these rounds is not counted\n\n" + "\n".join(lines))
    figures = Figures(bench)
    if "maimo" in options.programs:
        parts.append("## Targets\n\n" + targets_table(figures, options))
    for dataset in options.datasets:
        parts.append(dataset_section(bench, figures, dataset))
    return "\n\n".join(parts) + "\n"


class Figures:
    """The samples by dataset, work and tool."""

    def __init__(self, bench):
        self.samples, self.stored, self.described = bench.samples, bench.stored, bench.described

    def of(self, dataset, work, tool):
        return [s for s in self.samples if (s.dataset, s.work, s.tool) == (dataset, work, tool)]

    def seconds(self, dataset, work, tool):
        """Returns the median, or None where that was not measured."""
        samples = self.of(dataset, work, tool)
        return median(s.seconds for s in samples) if samples else None

    def peak(self, dataset, work, tool):
        samples = self.of(dataset, work, tool)
        return max(s.peak_bytes for s in samples) if samples else None

    def stored_bytes(self, dataset, tool, part="repository"):
        values = [parts[part] for d, t, _, parts in self.stored if (d, t) == (dataset, tool) and part in parts]
        return median(values) if values else None

    def fastest_peer(self, dataset, work):
        """Returns (seconds, name) of the fastest peer, or (None, None)."""
        peers = [(self.seconds(dataset, work, tool.name), tool.name) for tool in TOOLS.values() if tool.name != "maimo"]
        return min((peer for peer in peers if peer[0] is not None), default=(None, None))


# ---- targets -----------------------------------------------------------------------------------------------------------------------


def targets_table(figures, options):
    lines = ["| what | target | here | |", "|---|---|---|---|"]
    for target in targets(figures):
        verdict = {True: "met", False: "**not met**", None: "not measured"}[target.met]
        lines.append(f"| {target.what} | {target.aim} | {target.figure or '-'} | {verdict} |")
    text = "\n".join(lines)
    if options.scale != 1:
        text += f"\n\n**At scale {options.scale:g} these say nothing: the targets hold for the whole datasets.**"
    return text


def targets(figures):
    """Every target, whether it could be judged or not."""
    return [
        times("store source, fresh", figures, "source", "store", "restic", 3),
        stored("stored bytes, source", figures, "source", "restic", 1.0),
        times("store tiny, fresh", figures, "tiny", "store", "restic", 3),
        stored("stored bytes, tiny", figures, "tiny", "restic", 0.7),
        store_random(figures),
        stored("stored bytes, random", figures, "random", None, 1.01),
        times("store tiny again, unchanged", figures, "tiny", "store again", "restic", 4),
        at_most_times("store tiny again, unchanged", figures, "tiny", "store again", FIND, 3),
        times("retrieve source", figures, "source", "retrieve all", None, 2),
        times("retrieve tiny", figures, "tiny", "retrieve all", None, 2),
        under("retrieve one tiny file, whole process", figures, "tiny", "retrieve one", 0.060),
        under("audit of the random store, both strata", figures, "random", "audit", 0.050),
        *memory(figures),
    ]


def times(what, figures, dataset, work, peer, factor):
    """How many times faster than a peer, or than the fastest one."""
    ours = figures.seconds(dataset, work, "maimo")
    theirs, name = (figures.seconds(dataset, work, peer), peer) if peer else figures.fastest_peer(dataset, work)
    aim = f"{factor}x {peer or 'the fastest peer'}"
    if ours is None or theirs is None:
        return Target(what, aim, None, None)
    return Target(what, aim, f"{theirs / ours:.2f}x {name}", theirs / ours >= factor)


def at_most_times(what, figures, dataset, work, limit, factor):
    ours, theirs = figures.seconds(dataset, work, "maimo"), figures.seconds(dataset, work, limit)
    aim = f"at most {factor}x {limit}"
    if ours is None or theirs is None:
        return Target(what, aim, None, None)
    return Target(what, aim, f"{ours / theirs:.2f}x", ours / theirs <= factor)


def stored(what, figures, dataset, peer, factor):
    """How many bytes are stored, beside a peer's or beside what was read."""
    ours = figures.stored_bytes(dataset, "maimo")
    theirs = figures.stored_bytes(dataset, peer) if peer else figures.described.get(dataset, {}).get("bytes")
    aim = f"at most {factor:g}x {peer or 'read'}"
    if ours is None or not theirs:
        return Target(what, aim, None, None)
    return Target(what, aim, f"{ours / theirs:.3f}x", ours <= factor * theirs)


def store_random(figures):
    """The lower of two aims counts: where the disk is slow, no tool can be twice as fast as another."""
    what, aim = "store random, fresh", "2x the fastest peer or 0.7x raw write and fsync"
    ours, raw = (figures.seconds("random", "store", tool) for tool in ("maimo", RAW))
    peer, name = figures.fastest_peer("random", "store")
    if ours is None or (raw is None and peer is None):
        return Target(what, aim, None, None)
    beside_peer, beside_raw = peer and peer / ours, raw and raw / ours
    told = [f"{beside_peer:.2f}x {name}"] if peer else []
    told += [f"{beside_raw:.2f}x raw"] if raw else []
    met = bool((peer and beside_peer >= 2) or (raw and beside_raw >= 0.7))
    return Target(what, aim, ", ".join(told), met if met or (peer and raw) else None)


def under(what, figures, dataset, work, seconds):
    ours = figures.seconds(dataset, work, "maimo")
    aim = f"under {seconds * 1000:.0f} ms"
    return Target(what, aim, ours and f"{ours * 1000:.1f} ms", None if ours is None else ours < seconds)


def memory(figures):
    peaks = [s.peak_bytes for s in figures.samples if s.tool == "maimo"]
    whole, tenth = (figures.peak("tiny", work, "maimo") for work in ("store", "store a tenth"))
    figure, met = (f"{max(peaks) / MIB:.0f} MiB", max(peaks) <= 150 * MIB) if peaks else (None, None)
    high = Target("peak memory of any command", "at most 150 MiB", figure, met)
    if not whole or not tenth:
        return [high, Target("peak memory, all of tiny beside a tenth", "flat (at most 1.25x)", None, None)]
    figure = f"{whole / MIB:.0f} MiB, {tenth / MIB:.0f} MiB"
    return [high, Target("peak memory, all of tiny beside a tenth", "flat (at most 1.25x)", figure, whole <= 1.25 * tenth)]


# ---- every figure ------------------------------------------------------------------------------------------------------------------


def dataset_section(bench, figures, dataset):
    described = bench.described[dataset]
    size = described["bytes"]
    lines = [
        f"## {dataset}: {described['files']:,} files, {size / 1e6:.1f} MB ({described['origin']})",
        "",
        "| work | tool | median s | min - max | MB/s | cpu s | peak MiB | beside restic |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    works = dict.fromkeys(s.work for s in bench.samples if s.dataset == dataset)
    for work in works:
        names = dict.fromkeys(s.tool for s in bench.samples if (s.dataset, s.work) == (dataset, work))
        order = [tool.name for tool in TOOLS.values()] + [RAW, FIND, COPY]
        for name in sorted(names, key=order.index):
            lines.append(row(figures, dataset, work, name, size))
    lines += ["", "| stored by | bytes | stored / read | beside restic |", "|---|--:|--:|--:|"]
    restic = figures.stored_bytes(dataset, "restic")
    for tool in TOOLS.values():
        total = figures.stored_bytes(dataset, tool.name)
        if total is not None:
            beside = f"{total / restic:.2f}x" if restic else "-"
            lines.append(f"| {tool.name} | {total:,.0f} | {total / size:.3f} | {beside} |")
        home = figures.stored_bytes(dataset, tool.name, "home")
        if home is not None:
            lines.append(f"| {tool.name}: its own home, beside that | {home:,.0f} | {home / size:.3f} | - |")
    return "\n".join(lines)


def row(figures, dataset, work, tool, size):
    samples = figures.of(dataset, work, tool)
    seconds = [s.seconds for s in samples]
    middle, restic = median(seconds), figures.seconds(dataset, work, "restic")
    rate = f"{size / 1e6 / middle:.0f}" if work in ("store", "retrieve all") else "-"
    cpu = f"{median(s.cpu_seconds for s in samples):.2f}"
    peak = f"{median(s.peak_bytes for s in samples) / MIB:.0f}"
    if tool == RAW:
        cpu = peak = "-"  # those of the reading too
    beside = f"{restic / middle:.2f}x" if restic else "-"
    received = [s.figures["bytes_received"] / s.figures["slices"] for s in samples if s.figures.get("slices")]
    if received:
        work = f"{work} ({samples[0].figures['slices']} slices, {median(received):.0f} bytes received a slice)"
    return f"| {work} | {tool} | {middle:.3f} | {min(seconds):.3f} - {max(seconds):.3f} | {rate} | {cpu} | {peak} | {beside} |"


# ---- where and with what ------------------------------------------------------------------------------------------------------------


def setting(bench, options):
    lines = ["## Tools", ""]
    for key, program in options.programs.items():
        tool = TOOLS[key]
        lines.append(f"- {tool.name}: {tool.version(program)}; {tool.configuration}")
    if options.missing:
        lines.append(f"- not installed, hence left out: {', '.join(options.missing)}")
    commit = told(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty"])
    seconds, peak = bench.floor
    lines += [
        "",
        f"{options.rounds} rounds, seed {options.seed}, scale {options.scale:g}, sources at {commit or 'an unknown commit'}. "
        f"An empty command takes {seconds * 1000:.1f} ms here, and no peak below {peak / MIB:.0f} MiB can be seen.",
    ]
    return "\n".join(lines)


def machine(bench):
    lines = [
        f"- {field('/proc/cpuinfo', 'model name') or platform.processor()}, {os.cpu_count()} cores, "
        f"{int((field('/proc/meminfo', 'MemTotal') or '0 kB').split()[0]) / MIB:.0f} GiB",
        f"- {platform.system()} {platform.release()}, {platform.machine()}",
        f"- repositories on {file_system(bench.scratch)}, retrieved onto {file_system(bench.tmpfs)}",
        f"- load as the rounds began: {min(bench.loads):.1f} to {max(bench.loads):.1f} (up to about 2 is the measuring itself; the rest was somebody else)",
    ]
    return "\n".join(lines)


def field(path, name):
    try:
        with open(path, encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(name)), None)
    except OSError:
        return None


def file_system(path):
    return (told(["df", "--output=fstype", path]) or "an unknown file system").split("\n")[-1]


def told(argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
