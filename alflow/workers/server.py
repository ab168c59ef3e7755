"""ASE calculators in an interpreter of their own: the whole of what runs there.

``python server.py`` needs numpy and ASE, not alflow, and any Python from 3.8. It reads requests from its standard input
and answers on what was its standard output; whatever calculators print goes to its standard error. A message is a line
of JSON and then the bytes of the arrays that it lists: nothing is pickled. It ends when its input does, so when its
parent does, however that ends.

What calculators of different packages do differently is made the same here (:func:`evaluated`), in alflow's own process
too.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

_EXTRAS = ("dipole", "magmom", "charges", "magmoms")  # what may be told besides, by ASE's names
_AGREE = 1e-3, 1e-6  # eV, and relative: by which the energies of atoms may miss the energy
_TIGHT, _ROOMY = 2.0, 30.0  # Å of vacuum along directions that are not periodic
_SAME_ENERGY = 1e-3, 1e-6  # eV, and relative: what an energy in single precision changes by itself
_FAR = 100.0  # Å from the origin
_EMPTY = 1e-12  # Å^3
_LONGEST = 300  # characters of an error that are told


class UnusableError(Exception):
    """A calculator gave nothing that can be used; one line."""


def found(name: str) -> Any:
    """What a dotted name names: a class, a function or a method of a class; UnusableError if there is no such thing."""
    maker = None
    parts = name.split(".")
    missing: Exception | None = None
    for cut in range(len(parts) - 1, 0, -1):  # the longest part of the name that is a module
        try:
            maker = importlib.import_module(".".join(parts[:cut]))
        except ImportError as error:
            # A module that is there, and misses another one, is what the user must hear of.
            missing = missing or error
            continue
        try:
            for part in parts[cut:]:
                maker = getattr(maker, part)
        except AttributeError as error:
            msg = f"{name}: {line_of(missing or error)}"
            raise UnusableError(msg) from error
        return maker
    msg = f"{name}: {line_of(missing) if missing else 'expected module.Class'}"
    raise UnusableError(msg) from missing


def made(name: str, parameters: dict[str, Any]) -> Any:
    """A calculator by the dotted name of what makes it; UnusableError if that does not take the parameters."""
    maker = found(name)
    if not callable(maker):
        msg = f"{name}: expected a class or a function that makes a calculator, found {maker!r}"
        raise UnusableError(msg)
    try:
        calculator = maker(**parameters)
    except Exception as error:  # whatever packages raise
        msg = f"{name} with {parameters}: {line_of(error)}"
        raise UnusableError(msg) from error
    if isinstance(maker, type):
        check_parameters(name, calculator, parameters)
    if not hasattr(calculator, "get_potential_energy"):
        msg = f"{name} made a {type(calculator).__name__}: expected an ASE calculator"
        raise UnusableError(msg)
    return calculator


def check_parameters(name: str, calculator: Any, parameters: dict[str, Any]) -> None:
    """UnusableError for a misspelt parameter: those of ASE's own calculators take any, and use those they know."""
    known = set(getattr(calculator, "default_parameters", None) or ())
    if not known:
        return
    known |= {key for cls in type(calculator).__mro__ for key in inspect.signature(cls).parameters}
    known -= {"self", "args", "kwargs", "parameters"}
    for key in parameters:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"
            msg = f"{name}: no parameter {key}: {hint}"
            raise UnusableError(msg)


def right_handed(cell: np.ndarray) -> np.ndarray:
    """The same lattice with a cell that is right-handed: packages disagree about the others."""
    import numpy as np

    return cell * [[1.0], [1.0], [-1.0]] if np.linalg.det(cell) < 0 else cell


def near_origin(atoms: Atoms) -> Atoms:
    """The same structure with its atoms near the origin, where single precision has most digits, if they are far."""
    import numpy as np

    if not np.abs(atoms.positions).max(initial=0.0) > _FAR:  # atoms that cross a border have no reason to jump
        return atoms
    out: Atoms = atoms.copy()
    if out.pbc.any():
        out.wrap()
    else:
        out.positions -= out.positions.mean(axis=0)
    return out


def evaluated(calculator: Any, atoms: Atoms, *, stress: bool = True) -> dict[str, Any]:
    """What a calculator says of a structure, as read from its results after it has calculated, not as declared.

    ``stress`` is asked for unless this is false.

    Returns
    -------
    dict
        ``energy`` (float, eV; the one whose gradient the forces are, where there are two), ``plain_energy`` (float),
        ``forces`` (N, 3), and, where there are, ``stress`` (6,), only of a full cell that is periodic in all
        directions, ``energies`` of atoms (N,), only where they add up to the energy, and ``extras``, a dict.

    Raises
    ------
    UnusableError
        Energy or forces of another shape, or none.
    Exception
        Whatever the calculator raises.
    """
    import numpy as np
    from ase.calculators.calculator import PropertyNotImplementedError

    bare = atoms.copy()
    bare.set_constraint()
    bare.set_cell(right_handed(atoms.cell.array))
    bare.calc = calculator
    plain, forces = bare.get_potential_energy(), bare.get_forces()
    results = getattr(calculator, "results", None) or {}
    energy = results.get("free_energy")
    energy = plain if energy is None else energy
    found: dict[str, Any] = {"plain_energy": plain, "energy": energy, "forces": forces, "extras": {}}
    # Packages give a stress of molecules and slabs too, over a volume of their own making.
    if stress and atoms.pbc.all() and abs(np.linalg.det(atoms.cell.array)) > _EMPTY:
        given = results.get("stress")
        if given is None and hasattr(calculator, "get_stress"):
            try:
                given = calculator.get_stress(bare)
            except (PropertyNotImplementedError, NotImplementedError, KeyError):
                given = None
        voigt = None if given is None else _voigt(np.asarray(given))
        if voigt is not None:
            found["stress"] = voigt
    energies = results.get("energies")
    if energies is not None and np.shape(energies) == (len(atoms),):
        energies = np.asarray(energies, dtype=float)
        if abs(energies.sum() - float(energy)) <= _AGREE[0] + _AGREE[1] * abs(float(energy)):
            found["energies"] = energies
    for name in _EXTRAS:
        if results.get(name) is not None:
            found["extras"][name] = results[name]
    return found


def _voigt(stress: np.ndarray) -> np.ndarray | None:
    """Six numbers, in ASE's order; None for what is no stress."""
    import numpy as np

    if stress.dtype.kind not in "fiu" or not np.isfinite(stress).all():
        return None
    if stress.shape == (3, 3):
        stress = (stress + stress.T)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / 2
    return np.asarray(stress, dtype=float) if stress.shape == (6,) else None


def with_vacuum(atoms: Atoms) -> list[Atoms]:
    """The structure with little and with much vacuum along the directions that are not periodic; none without a cell.

    Of such a direction the length of the cell means nothing: the energy must not depend on it.
    """
    import numpy as np

    free = np.flatnonzero(~atoms.pbc)
    lengths = np.linalg.norm(atoms.cell.array, axis=1)
    if not len(free) or not (lengths[free] > 0).all():
        return []
    found = []
    for vacuum in (_TIGHT, _ROOMY):
        cell = atoms.cell.array.copy()
        for axis in free:
            along = cell[axis] / lengths[axis]
            cell[axis] = along * (np.ptp(atoms.positions @ along) + vacuum)
        other = atoms.copy()
        other.set_cell(cell)
        found.append(other)
    return found


def check_periodicity(calculator: Any, atoms: Atoms) -> bool:
    """Whether directions that are not periodic were tried; UnusableError if the calculator takes one for periodic."""
    energies = []
    for other in with_vacuum(atoms):
        try:
            energies.append(float(evaluated(calculator, other)["energy"]))
        except Exception:  # noqa: BLE001 - a cell that it does not take: nothing was learned
            return False
    if not all(abs(energy) < float("inf") for energy in energies):  # no numbers: nothing was learned
        return False
    if not energies:
        return True
    change, (absolute, relative) = abs(energies[1] - energies[0]), _SAME_ENERGY
    if change > absolute + relative * abs(energies[1]):
        given = "".join("T" if periodic else "F" for periodic in atoms.pbc)
        msg = (
            f"takes pbc = {given} for another (its energy changes by {change:.3g} eV with the vacuum, which must not "
            "matter): make the structure periodic in all directions, with vacuum"
        )
        raise UnusableError(msg)
    return True


def line_of(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:_LONGEST]}" if text else type(error).__name__


class _Calculators:
    """Those that were made, by their number."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.periodicities: set[tuple[int, tuple[bool, ...]]] = set()

    def make(self, name: str, parameters: dict[str, Any] | None) -> dict[str, Any]:
        """Make one; says its number and the package that it is of. Without parameters it is only looked for."""
        if parameters is None:
            found(name)
            return {"number": -1, "package": _package(name)}
        self.made.append(made(name, parameters))
        return {"number": len(self.made) - 1, "package": _package(name)}

    def evaluate(self, number: int, frames: list[Atoms]) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """What one says of structures, and errors by the number of the structure."""
        import numpy as np

        calculator, told, errors = self.made[number], [], {}
        for index, atoms in enumerate(frames):
            n = len(atoms)
            try:
                key = number, tuple(bool(x) for x in atoms.pbc)
                if key not in self.periodicities and check_periodicity(calculator, atoms):
                    self.periodicities.add(key)
                results = evaluated(calculator, near_origin(atoms))
                forces = np.asarray(results["forces"], dtype=float)
                if forces.shape != (n, 3):
                    msg = f"expected forces of shape ({n}, 3), found {forces.shape}"
                    raise UnusableError(msg)
                results.update(energy=float(results["energy"]), plain_energy=float(results["plain_energy"]))
                results["forces"] = forces
            except Exception as error:  # noqa: BLE001 - whatever packages raise
                errors[str(index)] = str(error) if isinstance(error, UnusableError) else line_of(error)
                results = {"energy": np.nan, "plain_energy": np.nan, "forces": np.full((n, 3), np.nan), "extras": {}}
            results.setdefault("stress", np.full(6, np.nan))
            results.setdefault("energies", np.full(n, np.nan))
            told.append(results)
        return told, errors


def _package(name: str) -> str:
    """The package that a module is of, with its version, as far as it can be told; of a single file its content."""
    module = sys.modules.get(name.split(".", maxsplit=1)[0])
    file = getattr(module, "__file__", None)
    if file and any(Path(file).parent == Path(folder) for folder in sys.argv[1:]):
        return f"{Path(file).name} {hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]}"
    try:
        from importlib.metadata import packages_distributions, version

        top = name.split(".", maxsplit=1)[0]
        package = packages_distributions()[top][0]
        return f"{package} {version(package)}"
    except Exception:  # noqa: BLE001 - an old Python, or a module of no package
        return name.split(".", maxsplit=1)[0]


def frames_of(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[Atoms]:
    """Structures from plain arrays."""
    import numpy as np
    from ase import Atoms

    frames, begin = [], 0
    for index, n in enumerate(arrays["lengths"]):
        end = begin + int(n)
        atoms = Atoms(
            numbers=arrays["numbers"][begin:end],
            positions=arrays["positions"][begin:end],
            cell=arrays["cells"][index],
            pbc=arrays["pbc"][index].astype(bool),
            info=dict(header["info"][index]),
        )
        for name in ("initial_magmoms", "initial_charges"):
            if name in arrays and np.isfinite(arrays[name][begin:end]).all():
                atoms.set_array(name, arrays[name][begin:end])
        frames.append(atoms)
        begin = end
    return frames


def send(stream: IO[bytes], header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a message."""
    import numpy as np

    parts = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    listed = [[name, part.dtype.str, list(part.shape)] for name, part in parts.items()]
    stream.write(json.dumps({**header, "arrays": listed}).encode() + b"\n")
    stream.writelines(part.tobytes() for part in parts.values())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Read a message; None when there is no other."""
    import numpy as np

    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    arrays = {}
    for name, dtype, shape in header.pop("arrays"):
        size = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
        content = stream.read(size)
        if len(content) < size:
            return None
        arrays[name] = np.frombuffer(content, dtype).reshape(shape)
    return header, arrays


def _answer(
    calculators: _Calculators, header: dict[str, Any], arrays: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Do what a message asks for; the answer's header and arrays."""
    import numpy as np

    if header["do"] == "make":
        try:
            return calculators.make(header["name"], header["parameters"]), {}
        except UnusableError as error:
            return {"error": str(error)}, {}
    frames = frames_of(header, arrays)
    found, errors, extras = [], {}, []
    for number in header["numbers"]:
        results, wrong = calculators.evaluate(number, frames)
        found.append(results)
        errors[str(number)] = wrong
        extras.append([_plain(one["extras"]) for one in results])
    columns = {
        name: np.array([[one[name] for one in results] for results in found], dtype=float)
        for name in ("energy", "plain_energy", "stress")
    }
    for name, empty in (("forces", np.zeros((0, 3))), ("energies", np.zeros(0))):
        columns[name] = np.array([np.concatenate([empty, *(one[name] for one in results)]) for results in found])
    return {"errors": errors, "extras": extras}, columns


def _plain(extras: dict[str, Any]) -> dict[str, Any]:
    """What JSON has a form for."""
    import numpy as np

    found = {}
    for name, value in extras.items():
        try:
            array = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            continue
        if np.isfinite(array).all():
            found[name] = array.tolist()
    return found


def _listen(stream: IO[bytes], requests: queue.SimpleQueue[Any]) -> None:
    """Take requests as they come; end everything when there will be no other."""
    while True:
        try:
            message = receive(stream)
        except Exception:  # noqa: BLE001 - half a message: nobody is there any more
            message = None
        if message is None:
            # In the middle of a calculation too: whoever would have heard of it is gone.
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)  # with the programs that calculators have started
            os._exit(0)
        requests.put(message)


def main() -> None:
    """Serve until the input ends."""
    # What lies beside this file must not hide modules of the same names that calculators import.
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != here] + sys.argv[1:]
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # calculators print
    try:
        import ase
        import numpy as np
    except Exception as error:  # noqa: BLE001 - whatever is wrong there is told
        answers.write(json.dumps({"error": line_of(error), "arrays": []}).encode() + b"\n")
        answers.flush()
        return
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    send(answers, {"python": sys.version.split()[0], "ase": ase.__version__, "numpy": np.__version__}, {})
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    calculators = _Calculators()
    while True:
        header, arrays = requests.get()
        try:
            answer = _answer(calculators, header, arrays)
        except Exception as error:  # noqa: BLE001 - it is told where the question came from
            answer = {"error": line_of(error)}, {}
        send(answers, *answer)


if __name__ == "__main__":
    main()
