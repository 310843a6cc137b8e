"""peers.json as a picture: one panel a job, one bar a library, on a scale of logarithms."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt  # the backend is chosen first

folder = Path(sys.argv[1])
report = json.loads((folder / "peers.json").read_text())
medians: dict[tuple[str, str], dict[str, float]] = {}
for name, job, figure, values in report["figures"]:
    if figure in ("cpu", "bytes", "ms"):
        medians.setdefault((job, figure), {})[name] = statistics.median(values)
names = list(report["versions"])
colours = dict(zip(names, plt.get_cmap("tab10").colors, strict=False))
units = {"cpu": "CPU us a step", "bytes": "bytes a step", "ms": "ms"}
figure, panels = plt.subplots((len(medians) + 1) // 2, 2, figsize=(11, 1.9 * ((len(medians) + 1) // 2)))
for panel in panels.flat[len(medians) :]:
    panel.set_visible(False)
for panel, ((job, kind), found) in zip(panels.flat, medians.items(), strict=False):
    there = sorted(found, key=lambda name: -found[name])
    bars = panel.barh(there, [found[name] for name in there], color=[colours[name] for name in there])
    panel.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    panel.set_xscale("log")
    panel.margins(x=0.25)
    panel.set_title(f"{job.replace('_', ' ')}: {units[kind]}", fontsize=10, loc="left")
    panel.tick_params(labelsize=8)
figure.suptitle(report["machine"], fontsize=9)
figure.tight_layout()
figure.savefig(folder / "peers.svg")
