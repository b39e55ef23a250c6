"""What a policy holds its actions to be worth, drawn over time below the pictures of an episode."""

from typing import Any

import numpy as np

from menura.report.footage import Footage
from menura.report.style import DARK

PANEL = 132
"""Height of a panel in pixels, without its legend."""
LINE = 18
"""Height of a line of the legend."""
_MARGIN_LEFT, _MARGIN, _SUPERSAMPLING, _FADED = 46, 8, 3, 0.72
_QUIET = (160, 168, 178)


class QPanel:
    """The values of every action over the shown steps, with a line at the step that is now.

    What is still to come is faded. The legend has every action's name and its value now; the largest is marked.
    """

    def __init__(self, footage: Footage, last_step: int, width: int, ground: tuple[int, int, int]):
        from PIL import Image, ImageFont

        assert footage.q_values is not None
        self._values = np.asarray(footage.q_values, np.float64)[: last_step + 1]
        self._names, self._width, self._ground = footage.action_names, width, ground
        self._colors = [_rgb(DARK.color(i)) for i in range(len(self._names))]
        self._font = ImageFont.load_default(size=12)
        self._columns = min(3, len(self._names))
        low, high = float(self._values.min()), float(self._values.max())
        room = 0.06 * (high - low) or 1.0
        self._low, self._high = low - room, high + room
        self._ends = (low, high)
        self._bright = self._curves()
        self._pale = Image.blend(self._bright, Image.new("RGB", self._bright.size, ground), _FADED)

    @property
    def height(self) -> int:
        """Of the panel with its legend."""
        return legend_height(len(self._names)) + PANEL

    def at(self, step: int) -> Any:
        """The panel as it is at one step."""
        from PIL import Image, ImageDraw

        step = min(step, len(self._values) - 1)
        panel = Image.new("RGB", (self._width, self.height), self._ground)
        x = round(self._x(step))
        panel.paste(self._pale, (0, 0))
        panel.paste(self._bright.crop((0, 0, x, PANEL)), (0, 0))
        draw = ImageDraw.Draw(panel)
        draw.line((x, _MARGIN // 2, x, PANEL - _MARGIN // 2), fill=_QUIET)
        decimals = 0 if max(map(abs, self._ends)) >= 100 else 1 if max(map(abs, self._ends)) >= 10 else 2
        for value in dict.fromkeys(self._ends):
            draw.text(
                (_MARGIN_LEFT - 6, self._y(value)), f"{value:.{decimals}f}", fill=_QUIET, font=self._font, anchor="rm"
            )
        best = int(np.argmax(self._values[step]))
        cell = (self._width - 2 * _MARGIN) // self._columns
        for index, name in enumerate(self._names):
            left, top = _MARGIN + cell * (index % self._columns), PANEL + LINE * (index // self._columns)
            color, middle = self._colors[index], top + LINE // 2
            if index == best:
                draw.ellipse((left, middle - 3, left + 6, middle + 3), fill=color)
            text = f"{name} {self._values[step, index]:.{decimals}f}"
            draw.text((left + 11, middle), text, fill=color, font=self._font, anchor="lm")
        return panel

    def _x(self, step: int) -> float:
        share = step / max(1, len(self._values) - 1)
        return _MARGIN_LEFT + share * (self._width - _MARGIN_LEFT - _MARGIN)

    def _y(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return PANEL - _MARGIN - share * (PANEL - 2 * _MARGIN)

    def _curves(self) -> Any:
        from PIL import Image, ImageDraw

        fine = _SUPERSAMPLING
        image = Image.new("RGB", (self._width * fine, PANEL * fine), self._ground)
        draw = ImageDraw.Draw(image)
        for index, color in enumerate(self._colors):
            points = [(fine * self._x(t), fine * self._y(q)) for t, q in enumerate(self._values[:, index])]
            draw.line(points, fill=color, width=2 * fine - 1, joint="curve")
        return image.resize((self._width, PANEL), Image.Resampling.LANCZOS)


def legend_height(num_actions: int) -> int:
    """Of the lines that name so many actions, and a little room below; an even number, as videos ask."""
    return LINE * -(-num_actions // 3) + 6


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
