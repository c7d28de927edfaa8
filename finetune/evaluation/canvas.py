"""The paper that pictures are drawn on: matplotlib, set up so that the same figures give the same
bytes, whatever this machine's settings are."""

from __future__ import annotations

import atexit
import importlib.util
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openchat_local.finetune.evaluation.result import Picture
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WITHOUT_PICTURES = (
    "Pictures are left out, since matplotlib is not installed: "
    "python -m pip install 'openchat-local[eval]' brings it."
)
# Told apart by the colour-blind as well (Okabe and Ito, 2008); each has its own marker besides.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#4a90c2")
MARKERS = ("o", "^", "s", "D", "v", "P")
# A light card, which is read on a dark page as well; `page` gives it a dark page's colours.
CARD, TEXT, QUIET, LINE = "#fdfdfe", "#1b1f25", "#5b6571", "#d8dde4"
DOTS_PER_INCH = 144

_STYLE: dict[str, Any] = {
    "figure.facecolor": CARD,
    "figure.constrained_layout.w_pad": 0.09,  # inches
    "figure.constrained_layout.h_pad": 0.09,
    "savefig.facecolor": CARD,
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": QUIET,
    "axes.titlecolor": TEXT,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": TEXT,
    "text.parse_math": False,  # a class may be called "$"
    "font.family": ["DejaVu Sans", "sans-serif"],  # comes with matplotlib
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "svg.fonttype": "none",  # text stays text: small, found by a search, read aloud
    "svg.hashsalt": "openchat-local",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture: `svg` is an XML document, `png` a file's bytes."""

    svg: str
    png: bytes

    def named(self, name: str, caption: str) -> Picture:
        """For a result."""
        return Picture(name, caption, self.svg, self.png)


def pictures_available() -> bool:
    """Whether matplotlib is there; WITHOUT_PICTURES is what to say where it is not."""
    return importlib.util.find_spec("matplotlib") is not None


@contextmanager
def canvas(width: float, height: float) -> Generator[Figure, None, None]:
    """A figure of so many inches, to be drawn on and finished inside. Raises OpenChatError
    where matplotlib is not installed."""
    if not pictures_available():
        raise OpenChatError(WITHOUT_PICTURES)
    _keep_its_files_apart()
    with _quiet():
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with mpl.rc_context():
            mpl.rcdefaults()  # a matplotlibrc of the user's would change the bytes
            mpl.rcParams.update(_STYLE)
            yield Figure(figsize=(width, height), layout="constrained")


def finish(figure: Figure) -> Drawing:
    """What was drawn, inside `canvas`."""
    svg, png = io.BytesIO(), io.BytesIO()
    # Neither the date nor the version, so that the bytes stay.
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return Drawing(svg.getvalue().decode("utf-8"), png.getvalue())


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """What the colours mean, above the panels; nothing where there is one nameless colour."""
    if not any(names):
        return
    columns = max(1, min(len(names), 90 // (max(map(len, names)) + 6)))
    drawn = figure.legend(handles, ["-"] * len(names), loc="outside upper left", ncols=columns)
    for text, name in zip(drawn.get_texts(), names, strict=True):
        text.set_text(plain(name))  # one that begins with "_" would be left out


def empty(axes: Axes, sentence: str) -> None:
    """Say on an empty panel why it is."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, sentence, ha="center", va="center", transform=axes.transAxes, color=QUIET)


def plain(text: str, most: int = 60) -> str:
    """`text` in one line of at most `most` characters, as XML can hold it."""
    line = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
    return line if len(line) <= most else line[: most - 1] + "…"


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """It warns of letters that its own font does not have; in the SVG they are there."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _keep_its_files_apart() -> None:
    """matplotlib lists the machine's fonts in a folder of its own: a temporary one, unless the
    environment names another."""
    if not os.environ.get("MPLCONFIGDIR"):
        folder = tempfile.TemporaryDirectory(prefix="openchat-local-matplotlib-")
        atexit.register(folder.cleanup)
        os.environ["MPLCONFIGDIR"] = folder.name
