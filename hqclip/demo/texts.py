"""What people write about a scene: the noisy alt-text of the web, and the four texts of a perfect annotator.

The teacher's negatives follow fixed rules, because a small model that decodes greedily learns no rule from
random ones and then writes what it sees. Every negative is false, aligned with its positive, and close to it.
"""

from __future__ import annotations

import numpy as np

from hqclip.demo.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT,
    RELATIONS,
    SHAPES,
    Scene,
    Thing,
    draw_scene,
    relation,
)

# How often the web tells the truth about its pictures; the rest is junk.
ALT_TEXT_MIX = {"right": 0.20, "partial": 0.35, "wrong": 0.20, "junk": 0.25}


def alt_text(scene: Scene, rng: np.random.Generator, mix: dict[str, float] | None = None) -> str:
    """A caption as found beside a picture: right, partial, wrong, or junk such as a file name."""
    shares = mix or ALT_TEXT_MIX
    kind = str(rng.choice(list(shares), p=list(shares.values())))
    if kind == "junk":
        return _junk(rng)
    if kind == "wrong":
        scene = draw_scene(rng)
    thing = scene.things[int(rng.integers(len(scene.things)))]
    if kind == "partial":
        return str(
            rng.choice(
                [
                    f"buy {thing.kind} online",
                    f"{thing.shape} picture",
                    f"{thing.colour} wallpaper",
                    f"photo of a {thing.kind}",
                    f"{thing.shape} on {scene.background} background",
                ]
            )
        )
    names = [f"{'a' if rng.random() < 0.5 else 'the'} {thing.kind}" for thing in scene.things]
    if len(names) == 1 or rng.random() < 0.5:
        return f"{' and '.join(names)}, {scene.background} background"
    first, second = rng.permutation(len(names))[:2].tolist()
    return f"{names[first]} {relation(scene.things[first], scene.things[second])} {names[second]}"


def _junk(rng: np.random.Generator) -> str:
    return str(
        rng.choice(
            [
                f"IMG_{rng.integers(10000):04d}.jpg",
                f"DSC{rng.integers(100000):05d}",
                "free shipping on orders over 50",
                "click to enlarge",
                f"stock photo #{rng.integers(10**6)}",
                "untitled design",
            ]
        )
    )


def teacher_texts(scene: Scene) -> dict[str, list[str]]:
    """The four texts of a perfect annotator in the published form: `tags`, `neg_tags`, `desc`, `neg_desc`."""
    tags = [thing.kind for thing in scene.things]
    neg_tags = [other_thing(thing, scene).kind for thing in scene.things]
    desc, neg_desc = [], []
    if len(scene.things) == 1:
        thing = scene.things[0]
        desc.append(f"a {thing.name}")
        neg_desc.append(f"a {other_thing(thing, scene).name}")
    grounds = list(BACKGROUNDS)
    for pair in zip(scene.things, scene.things[1:], strict=False):
        # The background decides who is named first: all four relations are said, and no exchange of colours, shapes
        # or places shows in the text alone.
        a, b = pair if grounds.index(scene.background) % 2 else pair[::-1]
        desc.append(f"a {a.name} is {relation(a, b)} a {b.name}")
        neg_desc.append(_contradiction(a, b, scene))
    desc.append(f"the background is {scene.background}")
    neg_desc.append(f"the background is {grounds[(grounds.index(scene.background) + 1) % len(grounds)]}")
    return {"tags": tags, "neg_tags": neg_tags, "desc": desc, "neg_desc": neg_desc}


def _contradiction(a: Thing, b: Thing, scene: Scene) -> str:
    """The sentence about `a` and `b` with one object replaced, the colours exchanged, or the relation turned round.

    The shape of `a` says which. Colours are not exchanged into a held-out pair: no text should teach that it is false.
    """
    stated = relation(a, b)
    if a.shape == "triangle":
        return f"a {other_thing(a, scene).name} is {stated} a {b.name}"
    if a.shape in ("circle", "cross") and not {(b.colour, a.shape), (a.colour, b.shape)} & HELD_OUT:
        return f"a {a.size} {b.colour} {a.shape} is {stated} a {b.size} {a.colour} {b.shape}"
    return f"a {a.name} is {RELATIONS[stated]} a {b.name}"


def other_thing(thing: Thing, scene: Scene) -> Thing:
    """The thing with its next colour or, for every second one, its next shape that the scene does not have."""
    colours, shapes = list(COLOURS), list(SHAPES)
    i, j = colours.index(thing.colour), shapes.index(thing.shape)
    if (i + j) % 2:
        taken = {other.colour for other in scene.things}
        options = [(colour, thing.shape) for colour in colours[i + 1 :] + colours[:i] if colour not in taken]
    else:
        taken = {other.shape for other in scene.things}
        options = [(thing.colour, shape) for shape in shapes[j + 1 :] + shapes[:j] if shape not in taken]
    colour, shape = next((option for option in options if option not in HELD_OUT), options[0])
    return Thing(thing.size, colour, shape, thing.cell)
