"""How far atoms see, with how many features, and what energies count: what suits the structures, by cross-validation.

Forces of close-packed metals, covalent crystals, molecules and liquids fade at different distances, and a basis that
has to describe farther neighbours has fewer functions left for near ones: no cutoff serves all. And where structures
are few, features of high degree are often not told by any: where the forces are simple they do harm, where these depend
on many angles they are needed from the start. And where forces are learned well, or cannot be, energies may count more.
Small fits tell, so candidates are compared on those.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alflow.committee.judgement import knows
from alflow.committee.resampling import Resampling
from alflow.committee.training import TrainingSet
from alflow.models.ace.fit import Fit, make_descriptor
from alflow.models.ace.packed import solution, with_diagonal
from alflow.models.ace.scaled import Scaled
from alflow.models.ace.settings import USUAL_CUTOFF, USUAL_ENERGY_WEIGHT, AceSettings
from alflow.models.ace.threads import each
from alflow.structures import bits, neighbours

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_LADDER = (-1.0, -0.5, 0.5, 1.0)  # Å, other cutoffs than the usual one
_NEAR, _FAR = 2.9, 10.0  # Å, nearest neighbours up to which the ladder serves, and as far as they are looked for
_FEWEST = 8  # structures that do not nearly coincide, below which nothing is chosen
_STRUCTURES, _ATOMS = 128, (4000, 2000)  # that are compared, at most; atoms of one element, and of several
_ELEMENTS = 20  # above which nothing is chosen: fits take long, and there is room for few features anyway
_LEAST = 30  # features of an atom in fits that compare
_COLUMNS = 600  # features of all species together in fits that compare cutoffs and weights
_SIZES = (150, 300, 600, 1200)  # the same in fits that compare sizes: where the last is best, more are better still
_WEIGHTS = (3.0, 10.0)  # of energies, by the usual one; less was worse in all of ten sets, or no better
_MORE = 1.1  # times as many, from which the usual number is another one than the largest that is compared
_STEPS = 1.25  # from one choice to the next, in structures
_FOLDS = 4
_STRENGTHS = tuple(np.arange(-12.0, -2.0, 1.5).tolist())  # of the ridge, as of Scaled.ridge
_STEP = 1.5  # of them
_SMALL = 0.0625  # squared error, over the median, below which structures are all equally good
_CLEARLY = 0.05  # difference of scores, from which it may count


@dataclass(frozen=True)
class Choice:
    """A cutoff, a number of features and a weight of energies, and why.

    Attributes
    ----------
    cutoff : float
        Å.
    n_features : int or None
        Of an atom, at most; None for the usual number.
    n_structures : int
        They were chosen on the first so many structures of the training set that do not nearly coincide.
    reason : str
        In words.
    energy_weight : float or None
        Of energies, eV over the square root of the number of atoms, relative to forces in eV/Å; None for the usual one.
    """

    cutoff: float
    n_features: int | None
    n_structures: int
    reason: str
    energy_weight: float | None = None

    @property
    def remark(self) -> str:
        """What was chosen and why, for people."""
        size = "" if self.n_features is None else f", {self.n_features} features an atom"
        weight = "" if self.energy_weight is None else f", energies with a weight of {self.energy_weight:g}"
        return f"cutoff {self.cutoff:g} Å{size}{weight}: {self.reason}"

    def applied(self, settings: AceSettings) -> AceSettings:
        """Settings with what was chosen in the place of what was left open."""
        n_features = self.n_features if settings.n_features is None else settings.n_features
        weight = self.energy_weight if settings.energy_weight is None else settings.energy_weight
        return settings.model_copy(update={"cutoff": self.cutoff, "n_features": n_features, "energy_weight": weight})


def deciding(n: int) -> int:
    """How many of n structures decide, the first ones: the largest of 1, 2, ..., 8, 10, 12, 15, ..., steps of 1.25.

    So a choice stands until there are a quarter more, and it does not matter in how many pieces they come. Fewer would
    not do: files are often sorted, and what comes last is unlike the rest.
    """
    number = 1
    while (more := max(number + 1, int(_STEPS * number))) <= n:
        number = more
    return number


def deciders(resampling: Resampling) -> IntArray:
    """Which structures decide: the first ones, of those that nearly coincide only one."""
    apart = np.flatnonzero(resampling.twins == np.arange(len(resampling.twins)))
    return apart[: deciding(len(apart))]


def choose(settings: AceSettings, training: TrainingSet, resampling: Resampling) -> Choice:
    """Cutoff, number of features and weight of energies with clearly lower errors of cross-validation than usual.

    Candidates are the usual cutoff of 5.5 Å and others from 4.5 to 6.5 Å, in proportion longer where the nearest
    neighbours are farther than 2.9 Å apart, as in alkali metals and rare gases; then, with the best of them, 150, 300
    and 600 features of all species together, if these do better than 1200; and three and ten times the usual weight of
    energies. The score is the mean over structures of log(1/16 + e^2/m), half of it by energies and half by forces,
    with the error e of a structure that was left out and its median m as things usually are: neither wild structures
    nor those without a force decide. What differs from the usual is taken where the score is lower by 0.05 and by a
    standard error of the difference. Another weight takes two of them, as often it is of no use.

    Where less than two thirds of the structures can be compared, a fit to all of them is another matter: then it takes
    two standard errors of another cutoff as well, and fewer features are not considered. Where 1200 are best, the usual
    number, which is larger for two elements and more, has to be a clear gain over them: of 30 structures of copper and
    gold it had two to seven times the error of forces, of 100 a third of it, and of 30 of water 0.86 of it.

    Parameters
    ----------
    settings : AceSettings
        Of the potential; what is given there is not chosen.
    training : TrainingSet
        Of which the first ones decide.
    resampling : Resampling
        Which of them nearly coincide.
    """
    first = deciders(resampling)
    some = training.subset(first.tolist())
    usual = settings.cutoff or round(USUAL_CUTOFF * _stretch(some), 2)
    # Evenly spaced, so that those that came last are heard as well.
    atoms = _ATOMS[len(some.numbers) > 1]
    most = max(_FEWEST, min(_STRUCTURES, int(atoms / np.mean([len(frame) for frame in some.frames]))))
    chosen = np.unique(np.linspace(0, len(first) - 1, min(len(first), most)).astype(int))
    isolated = np.flatnonzero(~resampling.dealt[first[chosen]]).tolist()
    compared = some.subset(chosen.tolist())
    folds = Resampling.of(compared.kinds(), range(len(compared)), _FOLDS, resampling.seed, isolated)
    if folds.n_apart < _FEWEST:
        return Choice(usual, None, len(first), f"as usual, of fewer than {_FEWEST} structures")
    if len(some.numbers) > _ELEMENTS:
        return Choice(usual, None, len(first), f"as usual, of more than {_ELEMENTS} elements")
    most_are = 3 * len(compared) >= 2 * len(first)
    found = _best(_Question(settings, compared, folds, usual, most_are))
    reason = f"{found.reason} (cross-validation of {len(compared)} of the first {len(first)})"
    return Choice(found.cutoff, found.n_features, len(first), reason, found.energy_weight)


def _stretch(training: TrainingSet) -> float:
    """By what cutoffs are longer: the median distance to the nearest neighbour over 2.9 Å, 1 at least."""
    nearest = []
    for frame in training.frames[:_STRUCTURES]:
        i, _, distance = neighbours(frame, _FAR, full=True)
        shortest = np.full(len(frame), np.inf)
        np.minimum.at(shortest, i, distance)
        nearest.append(shortest[np.isfinite(shortest)])
    found = np.concatenate(nearest)
    return max(1.0, float(np.median(found)) / _NEAR) if len(found) else 1.0


@dataclass(frozen=True, eq=False)
class _Question:
    """What an answer depends on; equal where that is the same.

    Attributes
    ----------
    settings, compared, folds : AceSettings, TrainingSet, Resampling
        Of the potential, structures, and to which fold each of them belongs.
    usual : float
        Cutoff to begin with, Å.
    most_are : bool
        Whether these are most of the structures.
    """

    settings: AceSettings
    compared: TrainingSet
    folds: Resampling
    usual: float
    most_are: bool
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        asked = [self.settings.plain(), self.usual, self.most_are, self.folds.seed]
        arrays = (self.folds.groups, self.compared.energies, *self.compared.forces)
        parts = [
            json.dumps(asked, sort_keys=True).encode(),
            *(b"" if array is None else np.ascontiguousarray(array).tobytes() for array in arrays),
            *(part for frame in self.compared.frames for part in bits(frame)),
            json.dumps(self.compared.origins).encode(),
        ]
        object.__setattr__(self, "digest", hashlib.sha256(b"|".join(parts)).digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


class _Answer(NamedTuple):
    """As of :class:`Choice`."""

    cutoff: float
    n_features: int | None
    energy_weight: float | None
    reason: str


@lru_cache(maxsize=4)  # every cycle of a run asks again
def _best(question: _Question) -> _Answer:
    """What is best, and why."""
    usual, settings = question.usual, question.settings
    few = _of_atom(settings, len(question.compared.numbers), _COLUMNS)
    of_usual = _errors(question, usual, few, _EVERYWHERE)
    if not of_usual:  # labels that are many orders of magnitude off: the fit itself says so
        return _Answer(usual, None, None, "as usual")
    least = min(of_usual, key=lambda place: sum(float(np.log(m)) for m in _medians(of_usual[place])))
    medians = _medians(of_usual[least])
    by_cutoff = {usual: _lowest({place: of_usual[place] for place in least.around if place in of_usual}, medians)}
    if settings.cutoff is None:
        for cutoff in (round(usual * (1.0 + step / USUAL_CUTOFF), 2) for step in _LADDER):
            if found := _errors(question, cutoff, few, least.around):
                by_cutoff[cutoff] = _lowest(found, medians)
    cutoff, reason = _clearly_best(by_cutoff, usual, 1.0 if question.most_are else 2.0, "Å")
    size, why = None, ""
    if question.most_are and settings.n_features is None:
        size, why = _best_size(question, cutoff, medians)
    weight, because = _best_weight(question, cutoff, few, least, medians)
    return _Answer(cutoff, size, weight, reason + why + because)


def _best_weight(
    question: _Question, cutoff: float, n_features: int, near: "_Place", medians: list[float]
) -> tuple[float | None, str]:
    """The best weight of energies, None for the usual one, and why."""
    if question.settings.energy_weight is not None or question.settings.force_weight == 0:
        return None, ""
    places = [place._replace(weight=factor) for factor in (1.0, *_WEIGHTS) for place in near.around]
    found = _errors(question, cutoff, n_features, places)
    by_weight = {}
    for factor in (1.0, *_WEIGHTS):
        if its := {place: errors for place, errors in found.items() if place.weight == factor}:
            by_weight[factor * USUAL_ENERGY_WEIGHT] = _lowest(its, medians)
    if USUAL_ENERGY_WEIGHT not in by_weight:
        return None, ""
    weight, why = _clearly_best(by_weight, USUAL_ENERGY_WEIGHT, 2.0, "as weight of energies")
    return None if weight == USUAL_ENERGY_WEIGHT else weight, f"; {why}"


def _best_size(question: _Question, cutoff: float, medians: list[float]) -> tuple[int | None, str]:
    """The best number of features of an atom, None for the usual one, and why."""
    sizes = _sizes(question.settings, question.compared.numbers)
    most = question.settings.features_of(len(question.compared.numbers))
    of_sizes = {size: _errors(question, cutoff, size, _EVERYWHERE) for size in sizes}
    if not of_sizes[sizes[-1]]:
        return None, ""
    by_size = {size: _lowest(errors, medians) for size, errors in of_sizes.items() if errors}
    size, why = _clearly_best(by_size, sizes[-1], 1.0, "features an atom")
    if size != sizes[-1]:
        return size, f"; {why}"
    if most <= _MORE * size:
        return None, f"; {why}"
    # That more were better so far does not say that still more are, and where it is not even so they need not be tried.
    if all(_gains(by_size, few, size) for few in sizes[-2:-1] if few in by_size):
        place = min(of_sizes[size], key=lambda at: _score(_terms(of_sizes[size][at], medians)))
        if of_most := _errors(question, cutoff, most, place.around):
            by_size[most] = _lowest(of_most, medians)
            if _gains(by_size, size, most):
                return None, f"; {why}, and {most} are better still"
    return size, f"; {why}, and {most} are no clear gain"


def _sizes(settings: AceSettings, numbers: tuple[int, ...]) -> list[int]:
    """Features of an atom that are compared: of the fewer ones those that see angles, as all matter has them."""
    *fewer, most = sorted({_of_atom(settings, len(numbers), columns) for columns in _SIZES})
    bases = {n: make_descriptor(settings.model_copy(update={"n_features": n}), numbers).basis for n in fewer}
    return [*(n for n, basis in bases.items() if basis.sees_angles or settings.l_max == 0), most]


def _of_atom(settings: AceSettings, n_species: int, columns: int) -> int:
    """Features of an atom where those of all species are about so many."""
    return min(settings.features_of(n_species), max(columns // n_species, _LEAST))


def _clearly_best(terms: dict[Any, list[Array]], usual: Any, errors: float, unit: str) -> tuple[Any, str]:
    """The candidate of the lowest score, if that is lower by so many errors than the usual one's, and a sentence."""
    best = min(terms, key=lambda candidate: _score(terms[candidate]))
    better = [here - there for here, there in zip(terms[usual], terms[best], strict=True)]
    gain = _score(better)
    error = float(np.sqrt(sum(np.var(part) / len(part) for part in better if len(part))))
    others = ", ".join(f"{candidate:g}" for candidate in sorted(terms) if candidate != usual)
    if not others:
        return usual, "as asked for"
    if gain < max(_CLEARLY, errors * error):
        return usual, f"none of {others} {unit} is clearly better than {usual:g}"
    ratio = np.exp(-gain / sum(1 for part in better if len(part)))
    return best, f"of {others} {unit} {best:g} is best, errors are {ratio:.2f} of those with {usual:g}"


def _gains(terms: dict[Any, list[Array]], fewer: Any, more: Any) -> bool:
    """Whether more are clearly better: by the score, or by forces alone, whose errors are known better."""
    parts = [here - there for here, there in zip(terms[fewer], terms[more], strict=True)]
    variances = [np.var(part) / len(part) if len(part) else 0.0 for part in parts]
    forces = parts[1].mean() if len(parts[1]) else 0.0
    return bool(_score(parts) > max(_CLEARLY, float(np.sqrt(sum(variances)))) or forces > 2 * np.sqrt(variances[1]) > 0)


class _Place(NamedTuple):
    """Of the ridge: its strength, and with which of the penalties it goes; and the weight of energies, by the usual."""

    log_strength: float
    prior: int
    weight: float = 1.0

    @property
    def around(self) -> "list[_Place]":
        """It, and those with less and with more strength."""
        return [self._replace(log_strength=self.log_strength + step) for step in (-_STEP, 0.0, _STEP)]


_EVERYWHERE = [_Place(x, prior) for prior in (0, 1) for x in _STRENGTHS]


def _errors(
    question: _Question, cutoff: float, n_features: int, places: list[_Place]
) -> dict[_Place, tuple[Array, Array]]:
    """Squared errors of energies, per atom, and of forces of each structure by fits that lack its fold.

    Of structures without forces, and of energies that no other fold tells, there are none.
    """
    training, folds = question.compared, question.folds
    n_species = len(training.numbers)
    settings = question.settings.model_copy(update={"cutoff": cutoff, "n_features": n_features})
    fit = Fit(settings, folds.seen.shape[1], training, stresses=False)
    fit.add(training, 0, fit.distances(training.frames), folds)
    composition = training.composition()
    energies = training.energies - composition @ training.energy_zero()
    equations = fit.jury.with_energies(fit.equations, energies, fit.energy_weight)
    last = fit.descriptor.basis.n_features
    groups, none = np.arange(len(equations.gram)), np.zeros(len(equations.total))
    systems, known = {}, {}
    for weight in {place.weight for place in places}:
        system = Scaled.of(equations.with_weight(weight), fit.penalties, np.arange(last + 1) == last)
        systems[weight] = system
        known[weight] = [system.assemble(1.0 * (groups != fold), none) for fold in range(_FOLDS)]
    judged = folds.dealt & np.any(
        knows(composition, folds.groups[:, None] != np.arange(_FOLDS)) & (folds.groups[:, None] == np.arange(_FOLDS)),
        axis=1,
    )

    def at(place: _Place) -> tuple[Array, Array] | None:
        system = systems[place.weight]

        def without(fold: int) -> Array:
            matrix, right, _ = known[place.weight][fold]
            w, _ = solution(with_diagonal(matrix, system.ridge(place.log_strength, place.prior)), right)
            coefficients = system.plain(w[:, None])[:, 0]
            coefficients[-n_species:] += system.shift
            return coefficients

        models = np.zeros((len(groups), len(none)))
        models[:_FOLDS] = each(without, range(_FOLDS), fit.descriptor.threads)
        if not np.isfinite(models).all():
            return None
        said = fit.jury.statements(models[:1], models, energies, composition)
        of_energies = (np.asarray(said.without) - energies) ** 2 / composition.sum(axis=1)
        pairs = zip(said.with_forces, said.force_without, said.forces, strict=True)
        of_forces = [np.mean((forces - label) ** 2) for k, forces, label in pairs if folds.dealt[k]]
        return of_energies[judged], np.array(of_forces)

    found = {place: at(place) for place in places}
    return {place: errors for place, errors in found.items() if errors is not None}


def _lowest(errors: dict[_Place, tuple[Array, Array]], medians: list[float]) -> list[Array]:
    """The terms of the lowest score."""
    return min((_terms(of_place, medians) for of_place in errors.values()), key=_score)


def _medians(errors: tuple[Array, Array]) -> list[float]:
    """Of the squared errors; 1 of those that there are none of."""
    return [max(float(np.median(part)), 1e-14) if len(part) else 1.0 for part in errors]


def _terms(errors: tuple[Array, Array], medians: list[float]) -> list[Array]:
    """What each structure adds to the score, by its energy and by its forces."""
    return [0.5 * np.log(_SMALL + part / median) for part, median in zip(errors, medians, strict=True)]


def _score(terms: list[Array]) -> float:
    return float(sum(part.mean() for part in terms if len(part)))
