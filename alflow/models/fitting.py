"""Fitting a committee to labelled structures."""

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator

from alflow.committee.committee import Committee
from alflow.committee.kinds import Weighs, check_weights
from alflow.committee.protocol import Model
from alflow.committee.training import BaselineResult
from alflow.models.kinds import model_class


def fit(
    frames: Sequence[Atoms],
    *,
    kind: str | type[Model] | Model = "ace",
    n_members: int = 16,
    seed: int = 0,
    baseline: Calculator | None = None,
    baseline_identity: str = "",
    baseline_results: Sequence[BaselineResult | None] | None = None,
    origins: Sequence[str] | None = None,
    growing: bool = False,
    **settings: Any,
) -> Committee:
    """Fit a committee.

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled structures: their calculators hold an energy (eV) and, if there are any, forces (eV/Å) and
        stress (eV/Å^3).
    kind : str, type or Model
        Of the model, as in ``[potential]`` of alflow.toml, or its class; or a model that is still to be fitted.
    n_members : int
        M, of a model that is made here; members that are there already are as many as they are.
    seed : int
        Decides which members see which structures.
    baseline : ASE calculator, optional
        The committee then learns the difference from it; predictions include it.
    baseline_identity : str
        What it is, for the file of the model.
    baseline_results : sequence of (float, ndarray), (float, ndarray, ndarray) or None, optional
        Its energy, forces and stress for each structure where they are known already.
    origins : sequence of str, optional
        Where each structure comes from, beside what its ``info`` says of ``system`` and ``config_type``: of those of
        one origin and composition every member sees half.
    growing : bool
        Whether other structures are to follow: then a weight of a kind that is not there is no error, but told.
    **settings
        Of the kind: for "ace" those of :class:`alflow.models.ace.settings.AceSettings`, for others the keys of
        ``[potential]``.

    Returns
    -------
    Committee
        Fitted and calibrated.

    Raises
    ------
    PotentialError
        Unknown settings; no structures, or structures that cannot be used; a weight of a kind that none of them is of;
        a member that cannot be evaluated.
    ConfigError
        A member, or what trains it, cannot be made: a program or a file that is not there, another environment.
    TrainingError
        A program that trains members failed.
    """
    if isinstance(kind, str):
        kind = model_class(kind)
    model = kind.make(n_members, settings) if isinstance(kind, type) else kind
    if isinstance(model.settings, Weighs) and not growing:
        check_weights(frames, origins, model.settings.weights)
    committee = Committee(model, seed, baseline, baseline_identity)
    committee.update(frames, baseline_results, origins)
    return committee
