"""Whether a fit has the memory that it needs, before it takes any."""

import re
import resource
from pathlib import Path

import psutil

from alflow.errors import PotentialError
from alflow.models.ace import packed
from alflow.models.ace.threads import systems_at_once

_GROUPS = Path("/sys/fs/cgroup")  # of jobs and containers, version 2 of control groups
_MINE = Path("/proc/self/cgroup")
_BESIDES = 6  # matrices besides those of the groups and those to be solved: sums of all, of stresses and of four folds


def available_memory() -> int:
    """Bytes that this process may still take: by the machine, by its own limit, and by those of its control groups."""
    found = [int(psutil.virtual_memory().available)]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        found.append(limit - int(psutil.Process().memory_info().vms))
    return max(min([*found, *_of_control_groups()]), 0)


def _of_control_groups() -> list[int]:
    """What the control group of this process and each of those it is in leave, where they limit anything."""
    try:
        lines = _MINE.read_text().splitlines()
    except OSError:
        return []
    mine = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folder, found = _GROUPS / mine, []
    for group in (folder, *folder.parents):
        if not group.is_relative_to(_GROUPS):
            break
        try:
            most, taken = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        except (OSError, ValueError):  # not there, or "max": no limit
            continue
        # What it holds of files is given back when it is needed.
        found.append(most - taken + (int(cached[1]) if cached else 0))
    return found


def check_memory(n_groups: int, n_species: int, n_features: int, threads: int) -> None:
    """Refuse a fit whose normal equations, by far the most of what it needs, do not fit into the memory.

    Raises
    ------
    PotentialError
        What it needs, what there is, and what to lower.
    """
    columns = n_species * (n_features + 1)
    height, width = packed.shape(columns)
    matrices = n_groups + _BESIDES + systems_at_once(threads)
    # Of the features of the atoms of a species whole matrices: sums of squares and the prior.
    needed = 8 * (height * width * matrices + 2 * n_species * n_features**2)
    there = available_memory()
    if needed > there:
        msg = (
            f"the fit needs {needed / 1e9:.3g} GB, for {n_species} species of {n_features} features each, and there "
            f"are {there / 1e9:.3g} GB: lower n_max or n_features, or take structures of fewer species"
        )
        raise PotentialError(msg)
