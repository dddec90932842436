"""Attention as figures: arrays in, matplotlib figures out; nothing is shown or written.

Color maps are perceptually uniform and keep their order for the color-blind; left is blue and right orange, as in
`tokenpose.visualize`. Figures are made without pyplot, so they are freed with the last reference to them.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, ListedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('figures need matplotlib: pip install "tokenpose[plot]"') from error

from tokenpose.skeletons import Skeleton
from tokenpose.visualize import Picture

Point = Float[np.ndarray, " 2"]
Points = Float[np.ndarray, "keypoints 2"]
Gray = Float[np.ndarray, "_ _"]
Extent = tuple[float, float, float, float]  # left, right, bottom, top, in pixels
View = tuple[tuple[float, float], tuple[float, float]]  # from left to right, from top to bottom, in pixels
Constraints = Mapping[str, Sequence[tuple[str, float]]]

LEFT, RIGHT, MIDDLE, RIM = "#409cff", "#ff9500", "#f0f0f0", "#141414"  # as in tokenpose.visualize
SMALL, MEDIUM, LARGE = 7, 8, 10  # points
MARGIN, GAP, LINE, BAR = 0.12, 0.06, 0.18, 0.8  # inches, like all lengths; a line of text, a color bar with its numbers
NARROWEST = 3.4  # a figure with room for a title
LONGEST_BAR = 3.0
MOST_ARROWS = 60
SMALLEST_VIEW = 16  # pixels


def draw_layers(
    picture: Picture,
    attention: Float[np.ndarray, "layers rows columns"],
    shares: Float[np.ndarray, " layers"],
    heatmaps: Float[np.ndarray, "layers height width"] | None = None,
    *,
    point: Point | None = None,
    title: str = "",
) -> Figure:
    """A keypoint's attention to the image, block by block; below each, if given, the heatmap as it forms.

    Patches cover the whole picture; heatmaps lie where decoding reads them. All blocks share one color scale.
    ``shares``: the part of the keypoint's attention that goes to the image. ``point``: where the keypoint was found,
    in the picture's pixels.
    """
    layers, kinds = len(attention), 1 if heatmaps is None else 2
    columns = _columns(layers, kinds)
    above = [LINE, GAP][:kinds] * math.ceil(layers / columns)
    note = "%: the part of its attention that goes to the image"
    if heatmaps is not None:
        note += "; below: the heatmap as it forms, with its peak"
    size, widest = _fit(_whole(picture), 1.7), _text_width("block 24: 99%", MEDIUM)
    figure, axes = _panels(columns, above, size, title, note, widest)
    gray, limit = _gray(picture), float(attention.max())
    for block, values in enumerate(attention):
        row, column = divmod(block, columns)
        above_panel = axes[kinds * row][column]
        image = _show_map(above_panel, gray, values, _patches(gray), limit, point)
        above_panel.set_title(f"block {block + 1}: {shares[block]:.0%}", fontsize=MEDIUM, pad=3)
        if heatmaps is not None:
            below = axes[kinds * row + 1][column]
            formed = _show_map(below, gray, heatmaps[block], _cells(gray, heatmaps), float(heatmaps.max()), point)
            _write_value(below, float(heatmaps[block].max()))
    _remove_rest(axes, layers, columns, kinds)
    _add_bar(figure, image, "attention of a patch", 0, kinds)
    if heatmaps is not None:
        _add_bar(figure, formed, "heatmap", 1, kinds)
    return figure


def draw_heatmaps(
    picture: Picture,
    heatmaps: Float[np.ndarray, "queries height width"],
    names: Sequence[str],
    points: Points,
    skeleton: Skeleton,
    *,
    title: str = "",
) -> Figure:
    """The pose over the picture, then a panel per heatmap: its keypoint's name, its peak and where it was found.

    ``names``: of the heatmaps; ``points``: of all the skeleton's keypoints, in the picture's pixels. All heatmaps have
    one color scale.
    """
    size = _fit(_whole(picture), 1.7)
    columns = _columns(len(names) + 1)
    widest = max(size[0], _text_width(max(names, key=len), MEDIUM) + GAP)
    rows = math.ceil((len(names) + 1) / columns)
    figure, axes = _panels(columns, [LINE] * rows, size, title, "number: the heatmap's peak", widest)
    flat = [panel for row in axes for panel in row]
    _show_picture(flat[0], picture)
    _draw_pose(flat[0], points, skeleton, 1.2)
    flat[0].set_title("pose", fontsize=MEDIUM, pad=3)
    gray = _gray(picture)
    for panel, values, name in zip(flat[1:], heatmaps, names, strict=False):
        point = points[skeleton.index(name)]
        image = _show_map(panel, gray, values, _cells(gray, heatmaps), float(heatmaps.max()), point)
        panel.set_title(name, fontsize=MEDIUM, pad=3, parse_math=False)
        _write_value(panel, float(values.max()))
    _remove_rest(axes, len(names) + 1, columns, 1)
    _add_bar(figure, image, "heatmap", 0, 1)
    return figure


def draw_matrix(
    values: Float[np.ndarray, "queries keypoints"],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str = "",
    label: str = "",
    row_label: str = "",
    column_label: str = "",
    breaks: Sequence[int] = (),
) -> Figure:
    """A matrix of keypoints to keypoints, with names, and with numbers if there are at most 20 columns.

    The color scale covers pairs of different keypoints. The value of a keypoint with itself is gray if it exceeds the
    scale. The scale is two-sided if a value is negative. ``breaks``: rows and columns before which a line is drawn.
    """
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"{len(rows)} rows and {len(columns)} columns are named; the matrix is {values.shape}")
    small = len(columns) <= 20
    cell = 0.36 if small else 0.125
    names = _text_width(max((*rows, *columns), key=len), SMALL)
    width = max(NARROWEST, len(columns) * cell + names + BAR + 3 * LINE)
    tall = max(1.2, len(rows) * cell)
    height = tall + (0.75 if small else 1) * names + 5 * LINE
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN))
    axes = figure.add_subplot()
    others = values[np.array(rows)[:, None] != np.array(columns)]
    limit = float(np.abs(others if others.size else values).max()) or 1.0
    low, colors = (0.0, colormaps["viridis"]) if values.min() >= 0 else (-limit, colormaps["PuOr_r"])
    image = axes.imshow(values, cmap=colors.with_extremes(over="0.8"), norm=Normalize(low, limit), interpolation="none")
    axes.set_xticks(
        range(len(columns)),
        columns,
        fontsize=SMALL,
        rotation=45 if small else 90,
        ha="right" if small else "center",
        rotation_mode="anchor" if small else None,
        parse_math=False,
    )
    axes.set_yticks(range(len(rows)), rows, fontsize=SMALL, parse_math=False)
    axes.tick_params(length=2)
    axes.set_xlabel(column_label, fontsize=MEDIUM)
    axes.set_ylabel(row_label, fontsize=MEDIUM)
    figure.suptitle(_wrap(title, width, LARGE), x=MARGIN / width, ha="left", fontsize=LARGE, parse_math=False)
    for place in breaks:
        axes.axhline(place - 0.5, color="white", linewidth=1.5)
        axes.axvline(place - 0.5, color="white", linewidth=1.5)
    if small:
        _write_values(axes, image, values)
    beyond = "max" if values.max() > limit else "neither"
    bar = figure.colorbar(image, ax=axes, extend=beyond, pad=0.02, aspect=tall / 0.12)
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label(label, fontsize=MEDIUM)
    return figure


def draw_constraints(
    picture: Picture, points: Points, skeleton: Skeleton, constraints: Constraints, *, title: str = ""
) -> Figure:
    """The person in the picture, and an arrow from each keypoint to those it attends to, wider for larger shares.

    ``points`` in the picture's pixels; ``constraints``: for each keypoint the others, with their shares of its
    attention. Arrows have the color of the side where they start; those of a single keypoint are numbered.
    Only the 60 strongest are drawn; if there are more, the figure says so.
    """
    arrows = [(share, skeleton.index(name), other) for name, others in constraints.items() for other, share in others]
    arrows.sort(reverse=True)
    most = arrows[0][0] if arrows else 1.0
    note = "an arrow leads from a keypoint to one it leans on: the wider, the larger its share of the attention"
    if len(arrows) > MOST_ARROWS:
        note += f"; the strongest {MOST_ARROWS} of {len(arrows)}"
        arrows = arrows[:MOST_ARROWS]
    view = _around(points, picture)
    figure, ((axes,),) = _panels(1, [0.0], _fit(view, 6.0), title, note, right=1.5)
    _show_picture(axes, (0.65 * picture + 20).astype(np.uint8))
    _draw_pose(axes, points, skeleton, 1.5, colored=False)
    axes.set(xlim=view[0], ylim=view[1][::-1])
    for share, source, other in reversed(arrows):
        style = _arrow_style(share / most, _side_color(skeleton, source)) | {"clip_path": axes.patch}
        axes.annotate("", points[skeleton.index(other)], points[source], arrowprops=style, annotation_clip=False)
    if len(constraints) == 1:
        for number, (_, source, other) in enumerate(arrows, 1):
            _label(axes, points[skeleton.index(other)], points[source], str(number))
        keys = {f"{number}  {other} {share:.1%}": share for number, (share, _, other) in enumerate(arrows, 1)}
    else:
        keys = {f"share {share:.1%}": share for share in (most, most / 2, most / 10) if arrows}
    _add_key(axes, sorted({skeleton.side(source) or "middle" for _, source, _ in arrows}), keys, most)
    return figure


def _columns(panels: int, kinds: int = 1) -> int:
    """The number of columns: up to six panels in one row, more in rows of nearly equal length that suit a page."""
    most = max(6, round(math.sqrt(1.6 * kinds * panels)))
    return math.ceil(panels / math.ceil(panels / most))


def _whole(picture: Picture) -> View:
    """The whole picture; pixel centers are at integers."""
    height, width = picture.shape[:2]
    return (-0.5, width - 0.5), (-0.5, height - 0.5)


def _around(points: Points, picture: Picture) -> View:
    """The part of a picture around points, with a margin of a quarter of their extent; all of it if that is tiny."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    around = [
        (max(least, float(start) - extent / 4), min(most, float(end) + extent / 4))
        for (least, most), start, end in zip(_whole(picture), low, high, strict=True)
    ]
    seen = min(end - start for start, end in around)
    return (around[0], around[1]) if seen >= SMALLEST_VIEW else _whole(picture)


def _fit(view: View, longer: float) -> tuple[float, float]:
    """(width, height) in inches of a panel with the given longer side."""
    (left, right), (top, bottom) = view
    inch = longer / max(right - left, bottom - top)
    return (right - left) * inch, (bottom - top) * inch


def _text_width(text: str, points: int) -> float:
    return 0.6 * points / 72 * len(text)


def _wrap(text: str, width: float, points: int) -> str:
    return textwrap.fill(text, max(1, int((width - 2 * MARGIN) / _text_width("x", points))))


def _panels(
    columns: int,
    above: Sequence[float],
    size: tuple[float, float],
    title: str,
    note: str,
    pitch: float = 0.0,
    right: float = BAR,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a row of panels for each entry of ``above``, the space above that row; ``right``: space beside."""
    pitch = max(pitch, size[0]) + GAP
    width = max(NARROWEST, 2 * MARGIN + columns * pitch + right)
    heading, small = _wrap(title, width, LARGE), _wrap(note, width, SMALL)
    head = 2 * MARGIN + LINE * (len(heading.splitlines()) + 0.8 * len(small.splitlines()))
    height = head + sum(above) + len(above) * size[1] + MARGIN
    figure = Figure(figsize=(width, height))
    figure.text(MARGIN / width, 1 - MARGIN / height, heading, fontsize=LARGE, va="top", parse_math=False)
    figure.text(MARGIN / width, 1 - (head - MARGIN / 2) / height, small, fontsize=SMALL, va="bottom", color="0.3")
    axes, y = [], height - head
    for room in above:
        y -= room + size[1]
        places = [MARGIN + column * pitch + (pitch - GAP - size[0]) / 2 for column in range(columns)]
        axes.append([figure.add_axes((x / width, y / height, size[0] / width, size[1] / height)) for x in places])
    return figure, axes


def _remove_rest(axes: list[list[Axes]], panels: int, columns: int, kinds: int) -> None:
    for number in range(panels, columns * len(axes) // kinds):
        row, column = divmod(number, columns)
        for panel in axes[kinds * row : kinds * (row + 1)]:
            panel[column].remove()


def _gray(picture: Picture) -> Gray:
    return picture @ np.array([0.299, 0.587, 0.114])


def _show_picture(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, aspect="auto", cmap="gray", vmin=-20, vmax=350)  # gray pictures are darkened
    axes.autoscale(False)  # points outside the picture must not shrink it
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _overlay() -> Colormap:
    """A color map that is more opaque for larger values: without attention the photograph shows through."""
    colors = colormaps["plasma"](np.linspace(0.2, 1, 256))  # its dark end would not show on a dark photograph
    colors[:, 3] = 0.9 * np.linspace(0, 1, 256) ** 0.5
    return ListedColormap(colors)


def _patches(gray: Gray) -> Extent:
    """The whole picture: pixel centers are at integers."""
    height, width = gray.shape
    return -0.5, width - 0.5, height - 0.5, -0.5


def _cells(gray: Gray, heatmaps: np.ndarray) -> Extent:
    """Where a heatmap lies, as in decoding: its first and last columns have their centers on the picture's."""
    (height, width), (rows, columns) = gray.shape, heatmaps.shape[-2:]
    half = (width - 1) / max(1, columns - 1) / 2
    x, y = (width - 1) / 2, (height - 1) / 2
    return x - half * columns, x + half * columns, y + half * rows, y - half * rows


def _show_map(
    axes: Axes, gray: Gray, values: np.ndarray, extent: Extent, limit: float, point: Point | None
) -> AxesImage:
    _show_picture(axes, gray)
    norm = Normalize(0, limit or 1.0)
    image = axes.imshow(values, cmap=_overlay(), norm=norm, extent=extent, aspect="auto", interpolation="nearest")
    if point is not None:
        rim = [withStroke(linewidth=2.2, foreground=RIM)]
        axes.plot(*point, "o", color="white", fillstyle="none", markersize=6, markeredgewidth=1.0, path_effects=rim)
    return image


def _write_value(axes: Axes, value: float) -> None:
    rim = [withStroke(linewidth=1.5, foreground=RIM)]
    place = axes.transAxes
    axes.text(0.04, 0.97, f"{value:.2f}", transform=place, va="top", color="white", fontsize=SMALL, path_effects=rim)


def _write_values(axes: Axes, image: AxesImage, values: np.ndarray) -> None:
    colors = image.to_rgba(values)[..., :3] @ np.array([0.299, 0.587, 0.114])
    low, high = image.get_clim()
    digits = 3 if low >= 0 and high < 0.1 else 2
    for (row, column), value in np.ndenumerate(np.round(values, digits) + 0.0):  # no minus before a zero
        ink = "black" if colors[row, column] > 0.5 else "white"
        axes.text(column, row, f"{value:.{digits}f}", ha="center", va="center", color=ink, fontsize=SMALL)


def _add_bar(figure: Figure, image: AxesImage, label: str, part: int, parts: int) -> None:
    """A color bar on the right of the panels: number ``part`` of ``parts``, from the top."""
    width, height = (float(side) for side in figure.get_size_inches())
    panels = [axes.get_position() for axes in figure.axes if axes.get_label() != "bar"]
    left, low, high = max(panel.x1 for panel in panels), min(panel.y0 for panel in panels), panels[0].y1
    each = (high - low) / parts
    length = min(0.85 * each, LONGEST_BAR / height)
    bar_axes = figure.add_axes((left + 0.15 / width, high - part * each - length, 0.1 / width, length), label="bar")
    bar_axes.set_facecolor("0.3")  # like a photograph of medium brightness
    bar = figure.colorbar(image, cax=bar_axes)
    bar.ax.tick_params(labelsize=SMALL, length=2)
    bar.set_label(label, fontsize=MEDIUM)


def _side_color(skeleton: Skeleton, index: int) -> str:
    return {"left": LEFT, "right": RIGHT, None: MIDDLE}[skeleton.side(index)]


def _draw_pose(axes: Axes, points: Points, skeleton: Skeleton, width: float, *, colored: bool = True) -> None:
    rim = [withStroke(linewidth=width + 1.5, foreground=RIM)]
    for first, second in skeleton.limbs:
        sides = {skeleton.side(first), skeleton.side(second)} - {None}
        color = _side_color(skeleton, first if skeleton.side(first) else second) if len(sides) == 1 else MIDDLE
        style = {"color": color} if colored else {"color": MIDDLE, "alpha": 0.5}
        axes.plot(*points[[first, second]].T, linewidth=width, path_effects=rim, **style)
    for index, point in enumerate(points):
        color = _side_color(skeleton, index)
        axes.plot(*point, "o", color=color, markersize=2.5 * width, markeredgecolor=RIM, markeredgewidth=0.8)


def _arrow_width(share: float) -> float:
    return 0.6 + 2.9 * share


def _arrow_style(share: float, color: str) -> dict[str, Any]:
    return {
        "arrowstyle": "-|>,head_length=0.5,head_width=0.25",
        "mutation_scale": 7 + 5 * share,
        "connectionstyle": "arc3,rad=0.18",  # keeps opposite arrows apart
        "shrinkA": 3,
        "shrinkB": 4,
        "linewidth": _arrow_width(share),
        "color": color,
        "alpha": 0.4 + 0.6 * share,
        "path_effects": [withStroke(linewidth=_arrow_width(share) + 1.2, foreground=RIM)],
    }


def _label(axes: Axes, point: Point, source: Point, text: str) -> None:
    """A label beyond the point, as seen from the source."""
    beyond = 9 * (point - source) / max(float(np.hypot(*(point - source))), 1e-6)
    axes.annotate(
        text,
        (point[0], point[1]),
        (beyond[0], -beyond[1]),
        textcoords="offset points",
        ha="center",
        va="center",
        color="white",
        fontsize=MEDIUM,
        path_effects=[withStroke(linewidth=2, foreground=RIM)],
        zorder=4,  # arrows have 3
    )


def _add_key(axes: Axes, sides: Sequence[str], shares: Mapping[str, float], most: float) -> None:
    """The key to colors and widths."""
    colors = {"left": LEFT, "right": RIGHT, "middle": MIDDLE}
    rim = [withStroke(linewidth=4, foreground=RIM)]
    keys = [Line2D([], [], color=colors[side], linewidth=2.5, path_effects=rim, label=f"from {side}") for side in sides]
    for label, share in shares.items():
        keys.append(Line2D([], [], color="0.5", linewidth=_arrow_width(share / most), label=label))
    key = axes.legend(
        handles=keys, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=SMALL, frameon=False
    )
    for text in key.get_texts():
        text.set_parse_math(False)
