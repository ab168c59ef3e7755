"""Figures by matplotlib, which is an extra."""

from pathlib import Path
from typing import TYPE_CHECKING

from alflow.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, of a size in inches; ConfigError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        msg = "a plot needs matplotlib, which is not installed: pip install 'alflow[plot]'"
        raise ConfigError(msg) from None
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: Path) -> None:
    """Write a figure; ConfigError where that cannot be."""
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror or error}): give a place that can be written to"
        raise ConfigError(msg) from error
    except ValueError as error:
        msg = f"{path} cannot be written ({' '.join(str(error).split())}): give a name ending in .png, .pdf or .svg"
        raise ConfigError(msg) from error
