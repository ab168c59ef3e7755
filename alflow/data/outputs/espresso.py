"""What pw.x of Quantum ESPRESSO prints of one structure: energy, and whether its electrons converged."""

import re

_ENERGY = re.compile(r"^!+\s+total energy\s+=\s+(\S+)\s+Ry", re.MULTILINE)
_ENTROPY = re.compile(r"^\s+smearing contrib\. \(-TS\)\s+=\s+(\S+)\s+Ry", re.MULTILINE)
_NOT_CONVERGED = re.compile(r"convergence NOT achieved", re.IGNORECASE)
_ACCURACY = re.compile(r"^\s+estimated scf accuracy\s+<\s+(\S+)\s+Ry", re.MULTILINE)
_THRESHOLD = re.compile(r"^\s+(?:scf )?convergence threshold\s+=\s+(\S+)", re.MULTILINE)
_ROUNDED = 1.1  # the threshold is printed with two digits


def free_energy(text: str) -> float | None:
    """The last energy (Ry): with smearing it is E - TS, whose gradient the forces are."""
    found = _ENERGY.findall(text)
    return float(found[-1]) if found else None


def entropy_term(text: str) -> float | None:
    """-TS (Ry), a part of the energy that is printed; None without smearing."""
    found = _ENTROPY.findall(text)
    return float(found[-1]) if found else None


def threshold_of(text: str) -> float | None:
    """To what the electrons are to converge (Ry), from the beginning of an output."""
    found = _THRESHOLD.search(text)
    return float(found[1].lower().replace("d", "e")) if found else None


def unconverged(text: str, threshold: float | None) -> str:
    """Why the electrons did not converge in the text of one structure; empty where they did.

    Parameters
    ----------
    text : str
        Of one structure.
    threshold : float, optional
        As of :func:`threshold_of`.
    """
    if found := _NOT_CONVERGED.search(text):
        return "\n".join(text[found.start() :].splitlines()[:1])
    energies = list(_ENERGY.finditer(text))
    exact = "EXX: now go back" in text
    if exact and "EXX self-consistency reached" not in text:
        return "the exact exchange did not become self-consistent"
    if energies and threshold is not None and not exact:
        # with scf_must_converge = .false. it says that convergence has been achieved, all the same
        accuracy = _ACCURACY.search(text, energies[-1].end())
        if accuracy and float(accuracy[1]) > _ROUNDED * threshold:
            return f"estimated accuracy {float(accuracy[1]):.2g} Ry, above its threshold of {threshold:.2g} Ry"
    return ""
