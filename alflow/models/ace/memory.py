"""Whether a fit has the memory that it needs, before it takes any."""

import resource
from pathlib import Path

import psutil

from alflow.errors import PotentialError

_GROUP = Path("/sys/fs/cgroup")  # of the job or container, with version 2 of control groups
_BESIDES = 6  # matrices besides those of the groups: the sum of all, and of four folds, and one to be solved


def available_memory() -> int:
    """Bytes that this process may still take: by the machine, by its own limit, and by that of its job or container."""
    found = [int(psutil.virtual_memory().available)]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        found.append(limit - int(psutil.Process().memory_info().vms))
    try:
        most, taken = ((_GROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        found.append(int(most) - int(taken))
    except (OSError, ValueError):  # no such group, or "max": no limit
        pass
    return max(min(found), 0)


def check_memory(n_groups: int, n_species: int, n_features: int, threads: int) -> None:
    """Refuse a fit whose normal equations do not fit into the memory.

    Raises
    ------
    PotentialError
        What it needs, what there is, and what to lower.
    """
    columns = n_species * (n_features + 1)
    needed = 8 * columns**2 * (n_groups + _BESIDES + threads)
    there = available_memory()
    if needed > there:
        msg = (
            f"the fit needs {needed / 1e9:.3g} GB, for {n_species} species of {n_features} features each, and there "
            f"are {there / 1e9:.3g} GB: lower n_max or n_features, or take structures of fewer species"
        )
        raise PotentialError(msg)
