"""The mean of a committee in a file, as an ASE calculator: a member of another committee."""

from ase.calculators.calculator import Calculator

from alflow.errors import PotentialError
from alflow.models.files import load


def mean_of(file: str, trust: bool = False) -> Calculator:
    """The mean of the committee that a file holds; ``trust`` as of :func:`alflow.models.files.load`.

    Raises
    ------
    PotentialError
        The file is not that of a model, or its committee was trained on a baseline, which no file holds.
    """
    committee = load(file, trust=trust)
    if committee.has_baseline:
        msg = f"{file}: trained on a baseline of its own, which a member cannot have: train it without"
        raise PotentialError(msg)
    return committee.calculator()
