"""How docs/benchmarks.md shows the GAIL paper's table: theirs beside ours in short, and the paper's figure again."""

from pathlib import Path
from typing import Any

from common import known_rows
from gail_paper import ALGORITHMS, NAME, TASKS

from menura.report.style import render

INTRODUCTION = """\
Ho & Ermon (2016) trained BC, FEM, GTAL and GAIL on demonstrations of four sizes. The first table has their mean returns
and ours, *theirs → ours*, normalized: 0 is the uniform random policy (ours, for both), 1 the expert that the
demonstrations are of (theirs and ours each their own). Means are over 7 seeds on classic control and of one on MuJoCo;
± in the second table is the deviation of all their evaluation episodes together. A dash was not measured, by us or by
them. Where a learner acts, it is given fewer steps than the paper's 1.5 M (classic control) and 25 M: its command or
its preset says how many. Reacher is GAIL without the entropy of the policy (λ = 0), and on MuJoCo the environments are
of another version. What is below −0.15 lies outside the picture.

![Normalized return by the number of trajectories: theirs dashed, ours drawn through](images/gail_paper.png)
"""


def details(rows: list[dict[str, Any]]) -> dict[tuple[str, int, str], dict[str, Any]]:
    """What was kept of each cell, by environment, size and algorithm."""
    return {(d["env"], d["size"], d["algorithm"]): d for d in (row["detail"] for row in rows)}


def ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as in the paper's table, and not as they were measured."""
    envs, algorithms = [task.env for task in TASKS], list(ALGORITHMS)

    def place(row: dict[str, Any]) -> tuple[int, int, int]:
        detail = row["detail"]
        return envs.index(detail["env"]), detail["size"], algorithms.index(detail["algorithm"])

    return sorted(rows, key=place)


def lead(rows: list[dict[str, Any]]) -> list[str]:
    """The short table, and where the time went."""
    known = details(rows)
    lines = [
        INTRODUCTION,
        "| environment | expert's return | trajectories | BC | FEM | GTAL | GAIL |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for task in TASKS:
        for size in task.sizes:
            found = [known.get((task.env, size, algorithm)) for algorithm in ALGORITHMS]
            if any(found):
                cells = [
                    "–" if d is None else f"{d['paper']['normalized']:.0%} → {d['ours']['normalized']:.0%}"
                    for d in found
                ]
                some = next(d for d in found if d is not None)
                ours = next(iter(some["by_seed"].values()))["expert_return"]
                experts = f"{some['paper']['expert']:,.1f} → {ours:,.1f}"
                lines.append(f"| {task.env} | {experts} | {size} | {' | '.join(cells)} |")
    lines.append("")
    for name, classic in (("Classic control", True), ("MuJoCo", False)):
        envs = {task.env for task in TASKS if task.classic == classic}
        seconds = {key: d["seconds"] for key, d in known.items() if key[0] in envs}
        runs = sum(len(known[key]["by_seed"]) for key in seconds)
        total = sum(len(task.sizes) * len(task.seconds) for task in TASKS if task.classic == classic)
        if seconds:
            said = f"{name}: {len(seconds)} of {total} cells, {runs} runs."
            if classic:
                # Nothing is asked of the others' time, and they were measured side by side.
                said += f" Their commands took {sum(seconds.values()) / 60:.0f} minutes together."
            lines.append(said)
            lines.append("")
    return lines


def draw(path: Path) -> None:
    """The paper's figure 1, theirs dashed and ours drawn through."""
    rows = list(known_rows(NAME).values())
    known = details(rows)
    tasks = [task for task in TASKS if any(env == task.env for env, _, _ in known)]
    if not tasks:
        return
    columns = min(2, len(tasks))
    height = 2.5 * -(-len(tasks) // columns) + 0.6

    def figure_of(figure: Any, theme: Any) -> None:
        panels = figure.subplots(-(-len(tasks) // columns), columns, squeeze=False).ravel()
        for axes in panels[len(tasks) :]:
            axes.set_axis_off()
        for axes, task in zip(panels, tasks, strict=False):
            axes.axhline(1.0, color=theme.ink, linewidth=1, linestyle=":")
            for index, algorithm in enumerate(ALGORITHMS):
                sizes = [size for size in task.sizes if (task.env, size, algorithm) in known]
                found = [known[task.env, size, algorithm] for size in sizes]
                for side, style in (("paper", "--"), ("ours", "-")):
                    axes.plot(
                        sizes,
                        [d[side]["normalized"] for d in found],
                        style,
                        marker="o" if side == "ours" else None,
                        markersize=4,
                        color=theme.color(index),
                        linewidth=1.2 if side == "paper" else 2.0,
                        label=algorithm if side == "ours" else None,
                    )
            axes.set_title(task.env)
            axes.set_xticks(task.sizes)
            axes.set_ylim(-0.15, 1.15)
            axes.set_xlabel("trajectories")
            axes.set_ylabel("normalized return")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))

    path.write_bytes(render(figure_of, height=height)[0])
