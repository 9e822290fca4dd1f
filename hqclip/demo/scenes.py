"""Scenes of one to three objects: what is in them, what is true of them, how they look.

A scene is drawn from a seed. Objects stand in the cells of a 2 x 2 grid; no two share a colour or a shape.
Combinations in `HELD_OUT` never occur in the pool: they show whether a model composes what it has learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (215, 40, 40),
    "green": (40, 165, 60),
    "blue": (45, 80, 220),
    "yellow": (235, 215, 40),
    "purple": (145, 50, 185),
    "orange": (240, 140, 30),
    "cyan": (50, 195, 205),
    "brown": (130, 85, 45),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring")
SIZES = {"small": 6, "large": 11}  # half the width, pixels
BACKGROUNDS = {"black": (15, 15, 15), "white": (245, 245, 245), "gray": (128, 128, 128), "pink": (250, 190, 200)}
RELATIONS = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# One shape for each colour is kept for the evaluation: 8 of the 40 pairs.
HELD_OUT = frozenset((colour, SHAPES[number % len(SHAPES)]) for number, colour in enumerate(COLOURS))

GRID, CELL = 2, 28
IMAGE_SIZE = GRID * CELL  # pixels a side
SUPERSAMPLING = 3
JITTER = 2  # pixels
NOISE = 6  # grey levels
SHADE = (0.05, 0.12)  # how much darker the bottom and the right side are: the light comes from the upper left


@dataclass(frozen=True)
class Thing:
    """One object: `cell` counts the grid row by row from the top left."""

    size: str
    colour: str
    shape: str
    cell: int

    @property
    def name(self) -> str:
        """As in `small red circle`."""
        return f"{self.size} {self.colour} {self.shape}"

    @property
    def kind(self) -> str:
        """As in `red circle`."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Objects in reading order (by cell) on a background."""

    things: tuple[Thing, ...]
    background: str


def draw_scene(rng: np.random.Generator, num_things: tuple[int, ...] = (1, 2, 3), held_out: bool = False) -> Scene:
    """A random scene; with `held_out` at least one of its colour-shape pairs never occurs in the pool."""
    count = int(rng.choice(num_things))
    while True:
        colours = rng.choice(list(COLOURS), count, replace=False)
        shapes = rng.choice(SHAPES, count, replace=False)
        sizes = rng.choice(list(SIZES), count)
        pairs = set(zip(colours.tolist(), shapes.tolist(), strict=True))
        if bool(pairs & HELD_OUT) == held_out:
            break
    cells = np.sort(rng.choice(GRID * GRID, count, replace=False))
    things = tuple(
        Thing(str(size), str(colour), str(shape), int(cell))
        for size, colour, shape, cell in zip(sizes, colours, shapes, cells, strict=True)
    )
    return Scene(things, str(rng.choice(list(BACKGROUNDS))))


def render(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """The scene as an RGB picture of `IMAGE_SIZE` pixels: anti-aliased, a little off-centre, lit, with noise."""
    side = IMAGE_SIZE * SUPERSAMPLING
    picture = Image.new("RGB", (side, side), BACKGROUNDS[scene.background])
    pencil = ImageDraw.Draw(picture)
    for thing in scene.things:
        off = rng.integers(-JITTER, JITTER + 1, 2)
        x = (thing.cell % GRID * CELL + CELL // 2 + int(off[0])) * SUPERSAMPLING
        y = (thing.cell // GRID * CELL + CELL // 2 + int(off[1])) * SUPERSAMPLING
        _draw_shape(pencil, thing.shape, x, y, SIZES[thing.size] * SUPERSAMPLING, COLOURS[thing.colour])
    small = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
    slope = np.linspace(0, 1, IMAGE_SIZE)
    light = (1 - SHADE[0] * slope)[:, None, None] * (1 - SHADE[1] * slope)[None, :, None]
    noise = rng.integers(-NOISE, NOISE + 1, (IMAGE_SIZE, IMAGE_SIZE, 3))
    return Image.fromarray(np.clip(np.asarray(small) * light + noise, 0, 255).astype(np.uint8))


def _draw_shape(pencil: ImageDraw.ImageDraw, shape: str, x: int, y: int, r: int, fill: tuple[int, int, int]) -> None:
    box = [x - r, y - r, x + r, y + r]
    if shape == "circle":
        pencil.ellipse(box, fill=fill)
    elif shape == "square":
        pencil.rectangle(box, fill=fill)
    elif shape == "triangle":
        pencil.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=fill)
    elif shape == "cross":
        arm = r // 3
        pencil.rectangle([x - r, y - arm, x + r, y + arm], fill=fill)
        pencil.rectangle([x - arm, y - r, x + arm, y + r], fill=fill)
    else:
        pencil.ellipse(box, outline=fill, width=max(2, int(r * 0.4)))


def relation(a: Thing, b: Thing) -> str:
    """How `a` stands to `b`; the sideways word is preferred when both would be true."""
    (ax, ay), (bx, by) = (a.cell % GRID, a.cell // GRID), (b.cell % GRID, b.cell // GRID)
    if ax != bx:
        return "left of" if ax < bx else "right of"
    return "above" if ay < by else "below"
