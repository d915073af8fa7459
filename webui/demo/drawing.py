"""Draws clips of moving shapes, many at once, on any device: the demo's training data.

Shape legend: B clips, C = 3 colours, T frames, H height, W width. Clips are `B C T H W`, -1 to 1.
Everything is a function of position, so one definition serves any size and number of frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from webui.demo.vocabulary import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Spec, names

_COLOUR, _SHAPE, _MOTION, _BACKGROUND = (
    {name: index for index, name in enumerate(names(words))}
    for words in (COLOURS, SHAPES, MOTIONS, BACKGROUNDS)
)


@dataclass(slots=True)
class Scene:
    """What a batch of clips shows; every tensor has B entries on the drawing device.

    `size` is the shape's circumscribed radius as a share of the shorter side; `offset` (B 2) is
    the resting place from the centre, in shares of width and height; `reach` is how far a motion
    goes, in shares of what it changes; `tilt` is the resting angle in radians; `tint` (B 3) is a
    small deviation of the colour.
    """

    colour: Tensor
    shape: Tensor
    motion: Tensor
    background: Tensor
    size: Tensor
    offset: Tensor
    reach: Tensor
    tilt: Tensor
    tint: Tensor

    def __len__(self) -> int:
        return len(self.colour)


def random_scene(specs: list[Spec], generator: torch.Generator) -> Scene:
    """A scene for each spec, its free parameters drawn at random; unnamed words too.

    Args:
        specs: what to show; motion None is `still`.
        generator: source of randomness; the scene lives on its device.
    """
    codes = [
        [
            _COLOUR.get(spec.colour or "", -1),
            _SHAPE.get(spec.shape or "", -1),
            _MOTION[spec.motion or "still"],
            _BACKGROUND.get(spec.background or "", -1),
        ]
        for spec in specs
    ]
    return scene_of_codes(torch.tensor(codes, device=generator.device), generator)


def scene_of_codes(codes: Tensor, generator: torch.Generator) -> Scene:
    """As `random_scene`, from a B 4 tensor of word numbers, -1 for unnamed."""
    device, count = generator.device, len(codes)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        draw = torch.rand((count, *shape), generator=generator, device=device)
        return low + (high - low) * draw

    def fill(column: int, words: int) -> Tensor:
        guess = torch.randint(words, (count,), generator=generator, device=device)
        return torch.where(codes[:, column] < 0, guess, codes[:, column])

    return Scene(
        colour=fill(0, len(COLOURS)),
        shape=fill(1, len(SHAPES)),
        motion=codes[:, 2],
        background=fill(3, len(BACKGROUNDS)),
        size=uniform(0.19, 0.25),
        offset=uniform(-0.10, 0.10, 2),
        reach=uniform(0.9, 1.1),
        tilt=uniform(-0.12, 0.12),
        tint=uniform(-6 / 255, 6 / 255, 3),
    )


def draw(scene: Scene, frames: int, height: int, width: int) -> Tensor:
    """Draw the clips.

    Returns:
        B 3 T H W in fp32, -1 to 1.
    """
    device = scene.size.device
    palette = torch.tensor([word.rgb for word in COLOURS], device=device) / 255
    colour = (palette[scene.colour] + scene.tint).clamp(0, 1)
    x, y, scale, angle = _trajectory(scene, frames)  # each B T
    short = min(height, width)
    radius_px = scale * short
    rows = torch.arange(height, device=device) + 0.5
    columns = torch.arange(width, device=device) + 0.5
    dx = columns.view(1, 1, 1, -1) - (x * width)[..., None, None]
    dy = rows.view(1, 1, -1, 1) - (y * height)[..., None, None]
    cos, sin = (
        (angle.cos() / radius_px)[..., None, None],
        (angle.sin() / radius_px)[..., None, None],
    )
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # the shape's own frame, B T H W
    cover = torch.empty_like(u)
    for index, name in enumerate(names(SHAPES)):
        chosen = scene.shape == index
        if chosen.any():
            distance = signed_distance(name, u[chosen], v[chosen])
            cover[chosen] = (0.5 - distance * radius_px[chosen][..., None, None]).clamp(0, 1)
    ground = _background(scene, height, width)[:, :, None]
    cover = cover[:, None]
    clip = ground + cover * (colour[:, :, None, None, None] - ground)
    return clip * 2 - 1


def _background(scene: Scene, height: int, width: int) -> Tensor:
    """B 3 H W, 0 to 1: a straight blend from the top tone to the bottom tone."""
    device = scene.size.device
    top = torch.tensor([word.rgb for word in BACKGROUNDS], device=device) / 255
    bottom = torch.tensor([word.rgb_bottom for word in BACKGROUNDS], device=device) / 255
    down = ((torch.arange(height, device=device) + 0.5) / height).view(1, 1, -1, 1)
    first, last = top[scene.background][..., None, None], bottom[scene.background][..., None, None]
    return (first + (last - first) * down).expand(-1, -1, -1, width)


def _trajectory(scene: Scene, frames: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x and y (shares of width and height), radius (share of the shorter side), angle.

    A motion always runs its whole course within the clip; one frame shows its middle. All B T.
    """
    device = scene.size.device
    time = (
        torch.linspace(0, 1, frames, device=device)
        if frames > 1
        else torch.full((1,), 0.5, device=device)
    )
    t = time[None]
    reach = scene.reach[:, None]
    x = (0.5 + scene.offset[:, :1]).expand(-1, frames).clone()
    y = (0.5 + scene.offset[:, 1:]).expand(-1, frames).clone()
    scale = scene.size[:, None].expand(-1, frames).clone()
    angle = scene.tilt[:, None].expand(-1, frames).clone()

    def moving(name: str) -> Tensor:
        return (scene.motion == _MOTION[name])[:, None]

    sweep = (t - 0.5) * 0.46 * reach  # from about 0.27 to 0.73 of the side
    x = torch.where(moving("right"), 0.5 + sweep, torch.where(moving("left"), 0.5 - sweep, x))
    y = torch.where(moving("down"), 0.5 + sweep, torch.where(moving("up"), 0.5 - sweep, y))
    hops = max(1, round(frames / 16))  # about a second each, slow enough for 4x in time
    hop = 0.70 - 0.42 * reach * (math.pi * hops * t).cos().abs()
    y = torch.where(moving("bounce"), hop, y)
    angle = torch.where(moving("rotate"), angle + math.pi * 0.5 * reach * t, angle)
    small, large = 0.11, 0.11 + 0.24 * reach
    scale = torch.where(moving("grow"), small + (large - small) * t, scale)
    scale = torch.where(moving("shrink"), large + (small - large) * t, scale)
    return x, y, scale, angle


def signed_distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Distance to the outline of a shape of radius about 1, negative inside; y points down.

    Straight-sided shapes use the largest distance to their sides, which keeps corners sharp.
    Centres are the centroids, so that a turning shape stays in place.
    """
    if shape == "circle":
        return (x * x + y * y).sqrt() - 0.88
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.78
    if shape == "triangle":
        return torch.maximum(y, x.abs() * (math.sqrt(3) / 2) - y / 2) - 0.56
    if shape == "cross":
        long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
        return torch.maximum(long - 1.0, short - 0.34)
    if shape == "star":
        return _star(x, y)
    if shape == "heart":
        return _heart(x, y)
    raise ValueError(f"unknown shape {shape!r}: one of {', '.join(names(SHAPES))}")


STAR_OUTER, STAR_INNER = 1.1, 0.47


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points, folded into one wedge of 36 degrees between a tip and its next notch."""
    wedge = math.pi / 5
    radius = (x * x + y * y).sqrt()
    turn = torch.remainder(torch.atan2(x, -y), 2 * wedge)
    turn = torch.minimum(turn, 2 * wedge - turn)
    u, v = radius * turn.cos(), radius * turn.sin()
    notch_u, notch_v = STAR_INNER * math.cos(wedge), STAR_INNER * math.sin(wedge)
    edge_u, edge_v = notch_u - STAR_OUTER, notch_v
    length = math.hypot(edge_u, edge_v)
    return ((u - STAR_OUTER) * edge_v - v * edge_u) / length


HEART_SCALE, HEART_CENTRE = 1.62, 0.60
"""The heart below is 1.1 high with its tip at 0; scaled, and moved to its centroid."""


def _heart(x: Tensor, y: Tensor) -> Tensor:
    """Two half discs on a square standing on its corner (I. Quilez, 2D distance functions)."""
    u, v = x.abs() / HEART_SCALE, HEART_CENTRE - y / HEART_SCALE
    lobe = ((u - 0.25) ** 2 + (v - 0.75) ** 2).sqrt() - math.sqrt(2) / 4
    along = 0.5 * (u + v).clamp(min=0)
    tip = torch.minimum(u**2 + (v - 1) ** 2, (u - along) ** 2 + (v - along) ** 2).sqrt()
    return torch.where(u + v > 1, lobe, tip * (u - v).sign()) * HEART_SCALE
