"""Draw the picture of README.md: probabilities of texts over labels, by the embedded model.

python docs/heat_map.py
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import pandas as pd

from skgliclass import GLiClassClassifier

LABELS = ["travel", "sport", "economy", "science", "politics", "cooking"]
TEXTS = [
    "One day I will see the world, from Lisbon to Samarkand.",
    "Extra-time header sends the underdogs into the final.",
    "Central bank leaves interest rates unchanged.",
    "New telescope images show water on a distant planet.",
    "Parliament votes on the coalition's housing bill tonight.",
    "Simmer the tomatoes for an hour before you add the basil.",
]
PICTURE = Path(__file__).with_suffix(".svg")

LEFT, TOP, WIDTH, HEIGHT = 430, 58, 74, 38
LIGHT, DARK = (239, 246, 250), (10, 92, 122)


def probabilities() -> pd.DataFrame:
    """Give the probability of each label, in the order of the list, for each text."""
    clf = GLiClassClassifier(labels=LABELS, device="cpu")
    return clf.predict_frame(pd.Series(TEXTS, index=TEXTS))[LABELS]


def svg(frame: pd.DataFrame) -> str:
    """Draw a frame of probabilities on a card of its own, legible on any background."""
    width = LEFT + WIDTH * frame.shape[1] + 20
    height = TOP + HEIGHT * frame.shape[0] + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="13">',
        "<title>Probabilities of texts over labels</title>",
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="#fff"'
        ' stroke="#d0d7de"/>',
    ]
    lines += [
        written(name, LEFT + WIDTH * (j + 0.5), TOP - 14, "middle", "#1f2328", bold=True)
        for j, name in enumerate(frame.columns)
    ]
    for i, (text, row) in enumerate(frame.iterrows()):
        y = TOP + HEIGHT * i
        lines.append(written(str(text), LEFT - 16, y + HEIGHT / 2 + 5, "end", "#1f2328"))
        lines += [cell(p, LEFT + WIDTH * j, y) for j, p in enumerate(row)]
    return "\n".join([*lines, "</svg>"]) + "\n"


def cell(p: float, x: float, y: float) -> str:
    """Draw one probability: the darker the higher."""
    colour = "#" + "".join(
        f"{round(a + (b - a) * p):02x}" for a, b in zip(LIGHT, DARK, strict=True)
    )
    ink = "#fff" if p > 0.5 else "#1f2328"
    box = (
        f'<rect x="{x + 1:g}" y="{y + 1:g}" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="3"'
        f' fill="{colour}"/>'
    )
    return box + written(f"{p:.2f}", x + WIDTH / 2, y + HEIGHT / 2 + 5, "middle", ink)


def written(text: str, x: float, y: float, anchor: str, colour: str, *, bold: bool = False) -> str:
    """Write some words."""
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}{weight}>{escape(text)}</text>"


if __name__ == "__main__":
    PICTURE.write_text(svg(probabilities()), encoding="utf-8")
