"""How figures look: colors that color-blind readers can tell apart, type readable on a phone, light and dark."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from menura.core import RequestError

# Okabe & Ito (2008), without the yellow that vanishes on white; on dark ground the same hues, lighter.
_LIGHT = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#B07A00", "#3C97CC")
_DARK = ("#56B4E9", "#F28E4B", "#2CC295", "#E08FC0", "#E6B93C", "#8FB4FF")


@dataclass(frozen=True)
class Theme:
    """The colors of one figure."""

    background: str
    ink: str
    faint: str
    series: tuple[str, ...]

    def color(self, index: int) -> str:
        """The color of one series."""
        return self.series[index % len(self.series)]


LIGHT = Theme("#ffffff", "#22262b", "#d8dce1", _LIGHT)
DARK = Theme("#181b20", "#e3e6ea", "#3a4048", _DARK)


@dataclass(frozen=True)
class Figure:
    """A picture of a report, as PNG on light and on dark ground."""

    name: str
    """Stem of its file."""
    caption: str
    alt: str
    """What it shows, for those who cannot see it."""
    light: bytes
    dark: bytes


def render(draw: Callable[[Any, Theme], None], *, height: float = 4.0) -> tuple[bytes, bytes]:
    """A figure drawn twice, as PNG on light and on dark ground. ``draw`` gets a matplotlib figure and the theme."""
    return _png(draw, LIGHT, height), _png(draw, DARK, height)


def _png(draw: Callable[[Any, Theme], None], theme: Theme, height: float) -> bytes:
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as MatplotlibFigure
    except ModuleNotFoundError as error:
        raise RequestError("Figures need matplotlib: install menura with its `viz` extra.") from error
    with matplotlib.rc_context(rc=_settings(theme)):
        # A figure of its own, and not one of pyplot's, leaves nothing behind in the process.
        figure = MatplotlibFigure(figsize=(6.4, height), dpi=170, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, theme)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _settings(theme: Theme) -> Any:
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 12,
        "axes.labelsize": 12,
        "axes.titlesize": 12,
        "legend.fontsize": 11,
        "legend.frameon": False,
        "figure.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "axes.facecolor": theme.background,
        "axes.edgecolor": theme.ink,
        "axes.labelcolor": theme.ink,
        "text.color": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.faint,
        "grid.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 2.0,
        "axes.formatter.use_mathtext": True,
        "axes.formatter.useoffset": False,
    }


def legend_below(figure: Any, axes: Any) -> None:
    """One legend under the axes, where it covers no curve, in as many columns as its words leave room for."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    columns = max(1, min(len(labels), 3, math.floor(62 / (max(map(len, labels)) + 6))))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def count_axis(axis: Any) -> None:
    """Ticks of an axis of steps as 0, 250 k, 1.5 M."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    def label(value: float, _position: int | None = None) -> str:
        for divisor, unit in ((1e6, " M"), (1e3, " k")):
            if abs(value) >= divisor:
                return f"{value / divisor:g}{unit}"
        return f"{value:g}"

    axis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_major_formatter(FuncFormatter(label))
