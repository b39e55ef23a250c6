"""The pictures of docs/merge.md, from what has been measured and from policies trained on the spot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import REPOSITORY
from scipy.special import stdtrit

IMAGES = REPOSITORY / "docs" / "images"
Study = dict[str, dict[int, dict[str, tuple[float, float]]]]
"""By algorithm and number of demonstrations: mean and half-width of the 95% interval of each measure."""
COLORS = {"expert": "#22262b", "bc": "#0072B2", "dagger": "#D55E00", "gail": "#009E73", "airl": "#AA4499"}
"""Okabe & Ito (2008)."""
SHOWN = {"expert": "expert", "bc": "BC", "dagger": "DAgger", "gail": "GAIL", "airl": "AIRL", "cloning": "cloning"}


def figure_of(columns: int, *, width: float = 8.6, height: float = 3.4) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained")
    for axis in np.atleast_1d(axes):
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def study(told: Study, path: Path = IMAGES / "merge_study.png") -> None:
    """Crash rate, speed and time to merge by demonstrations."""
    figure, axes = figure_of(3, width=10.5)
    sizes = sorted({size for name, cells in told.items() if name != "expert" for size in cells})
    titles = {
        "crashes": "drives that end in a crash (%)",
        "speed": "mean speed (m/s)",
        "seconds": "seconds until past the ramp",
    }
    for axis, (measure, title) in zip(axes, titles.items(), strict=True):
        for name, cells in told.items():
            if name == "expert":
                axis.axhline(cells[0][measure][0], color=COLORS[name], linestyle="--", linewidth=1.2, label="expert")
                continue
            # Side by side, so that intervals can be told apart.
            at = np.array([sizes.index(size) for size in cells]) + 0.1 * (list(COLORS).index(name) - 2.5)
            means, widths = (np.array([cell[measure][i] for cell in cells.values()]) for i in (0, 1))
            bars = (np.minimum(means, widths), widths)
            axis.errorbar(at, means, bars, color=COLORS[name], marker="o", markersize=4, capsize=2, label=SHOWN[name])
        axis.set_xticks(range(len(sizes)), map(str, sizes))
        axis.set(title=title, xlabel="demonstrations")
    axes[0].legend(frameon=False, fontsize=8)
    save(figure, path)


def errors(by_labels: Mapping[int, Sequence[Mapping[str, Any]]], path: Path = IMAGES / "merge_errors.png") -> None:
    """Where along a drive the learner does something else than the expert would, for each number of labels."""
    counts = sorted(by_labels)
    figure, axes = figure_of(len(counts))
    for axis, count in zip(np.atleast_1d(axes), counts, strict=True):
        for name, color in (("cloning", COLORS["bc"]), ("dagger", COLORS["dagger"])):
            seeds = 100 * np.array([seed[name]["errors"] for seed in by_labels[count]])
            steps, mean = np.arange(1, seeds.shape[1] + 1), seeds.mean(axis=0)
            axis.plot(steps, mean, color=color, label=SHOWN[name])
            if len(seeds) > 1:
                # Student's 95% interval of the mean over seeds.
                half = stdtrit(len(seeds) - 1, 0.975) * seeds.std(axis=0, ddof=1) / np.sqrt(len(seeds))
                low, high = np.clip(mean - half, 0, 100), np.clip(mean + half, 0, 100)
                axis.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
        axis.set(title=f"{count} labels", xlabel="second of the drive", ylim=(0, 100), xticks=(1, 4, 8, 12))
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("not what the expert would do (%)")
    first.legend(frameon=False, fontsize=8)
    save(figure, path)


def shift(told: Mapping[str, Mapping[str, tuple[float, float]]], path: Path = IMAGES / "merge_shift.png") -> None:
    """Crash rates in light and in dense traffic, of those who learned in light traffic."""
    figure, axis = figure_of(1, width=5.4)
    for index, (name, rates) in enumerate(told.items()):
        values = [100 * rates[where][0] for where in ("light", "dense")]
        widths = [100 * rates[where][1] for where in ("light", "dense")]
        at = np.arange(2) + 0.18 * (index - 1.5)
        axis.bar(at, values, 0.16, color=COLORS[name], label=SHOWN[name])
        axis.errorbar(at, values, (np.minimum(values, widths), widths), color="#22262b", fmt="none", capsize=2, lw=0.8)
    axis.set_xticks((0, 1), ("light traffic, as in training", "dense traffic"))
    axis.set(ylabel="drives that end in a crash (%)")
    axis.legend(frameon=False, fontsize=8)
    save(figure, path)


def reward_maps(runs: Mapping[str, Any], spec: Any, demos: Any, path: Path = IMAGES / "merge_reward.png") -> None:
    """What a second behind a leader is paid, by the gap and the relative speed: learned, and the environment's own."""
    from menura.environments.driving.outcome import merge_reward
    from menura.environments.driving.scene import IDLE
    from menura.report.charts import CRUISING, chart_of
    from menura.run.reward import reward_in

    chart = chart_of("merge-v0", 25)
    gap, relative = np.meshgrid(np.linspace(0, 60, 61), np.linspace(-12, 12, 49))
    points = np.stack([gap.ravel(), relative.ravel()], axis=1)
    obs = chart.to_obs(points).astype(np.float32)
    figure, axes = figure_of(len(runs) + 1, width=9.6)
    crash = gap + relative < 0
    still = np.zeros_like(gap)
    own = merge_reward(still + CRUISING, still + 1, crash, still > 0, still)
    maps = {"the environment's own,\nif both keep their speed": own}
    for name, run in runs.items():
        reward = reward_in(run.learner, run.state.score, spec, form="logit")
        pay = jax.jit(jax.vmap(lambda o, a, reward=reward: reward(o, a, o)))
        values = np.asarray(pay(obs, np.full(len(obs), IDLE))).reshape(gap.shape)
        what = "of going on as before" if reward.sees_actions else "of the state"
        maps[f"{SHOWN[name]}'s score\n{what}"] = values
    seen = chart.of_obs(np.concatenate([np.asarray(e.obs) for e in demos.episodes]))
    for axis, (title, values) in zip(np.atleast_1d(axes), maps.items(), strict=True):
        image = axis.pcolormesh(gap, relative, values, cmap="cividis", shading="nearest")
        figure.colorbar(image, ax=axis)
        axis.plot(*seen.T, ".", color="black", markersize=1.5, alpha=0.5)
        axis.set(title=title, xlabel="gap (m)", xlim=(0, 60), ylim=(-12, 12))
        axis.title.set_fontsize(9)
    np.atleast_1d(axes)[0].set_ylabel("leader's speed less one's own (m/s)")
    save(figure, path)


def crash_stills(policies: Mapping[str, Any], seed: int, path: Path = IMAGES / "merge_crash.png") -> None:
    """The same traffic, driven by each policy: a picture of each every other second, until one of them crashes."""
    from PIL import Image, ImageDraw, ImageFont

    from menura.environments.driving import road_of
    from menura.report.driving import MOMENTS, draw_moment, drive_of
    from menura.report.footage import record

    road = road_of("merge-v0")
    assert road is not None
    drives = {name: record("merge-v0", policy, seed=seed, label=name) for name, policy in policies.items()}
    end = min((f.num_steps for f in drives.values() if f.crashed), default=8)
    steps = np.unique(np.clip([0, end // 2, end, end + 1], 0, None))[:3]
    width, gap, bar = 300, 4, 18
    rows = []
    for name, footage in drives.items():
        drive = drive_of(footage.obs, road)
        row = []
        for step in steps.tolist():
            last = footage.num_frames - 1
            moment = min(step * MOMENTS, last)
            row.append((draw_moment(drive, moment, width, crashed=footage.crashed and moment == last), step))
        rows.append((name, row))
    height = rows[0][1][0][0].shape[0]
    page = Image.new("RGB", ((width + gap) * len(steps) - gap, (height + bar + gap) * len(rows) - gap), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=12)
    for line, (name, row) in enumerate(rows):
        top = line * (height + bar + gap)
        for column, (picture, step) in enumerate(row):
            left = column * (width + gap)
            page.paste(Image.fromarray(picture), (left, top + bar))
            crashed = drives[name].crashed and step >= drives[name].num_steps
            text = f"{name}: crash" if crashed else f"{name}, {step} s"
            draw.text((left + 2, top + 2), text, fill="#c62f10" if crashed else "#22262b", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, optimize=True)
