"""What calculators of other packages do differently is made the same, in this process and in others."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from alflow.errors import ConfigError
from alflow.workers import interpreters, server
from alflow.workers.calculator import ServedCalculator
from alflow.workers.interpreters import CalculatorError, evaluate, interpreter
from alflow.workers.recipe import Recipe
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import CalculatorError as AseError

from odd_calculators import NoStress, Odd

TESTS = str(Path(__file__).parents[1])


def recipe(what: str = "", name: str = "odd_calculators.Odd", **parameters: object) -> Recipe:
    return Recipe(name, {"what": what, **parameters} if name.endswith("Odd") else parameters, folder=TESTS)


def crystal() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 2), vacuum=3.0)
    atoms.info = {}
    return atoms


def test_served_is_what_is_calculated_here() -> None:
    frames = [crystal(), molecule("H2O"), crystal()]
    frames[2].rattle(0.05, seed=2)
    for what, name in (
        ("", "odd_calculators.Odd"),
        ("", "odd_calculators.factory"),
        ("", "odd_calculators.Shop.order"),
    ):
        parameters = {} if name.endswith("Odd") else {"strength": 0.3}
        (found,) = evaluate([recipe(what, name, **parameters)], frames)
        assert not found.errors
        begin = 0
        for k, frame in enumerate(frames):
            here = server.evaluated(Odd(), frame)
            end = begin + len(frame)
            assert found.energy[k] == pytest.approx(here["energy"], abs=1e-12)
            np.testing.assert_allclose(found.forces[begin:end], here["forces"], atol=1e-12)
            np.testing.assert_allclose(found.energies[begin:end], here["energies"], atol=1e-12)
            assert np.isfinite(found.stress[k]).all() == ("stress" in here) == frame.pbc.all()
            begin = end


def test_members_in_two_interpreters_at_once(tmp_path: Path) -> None:
    """The same program by another name is another process; each holds all that is made in it."""
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    recipes = [
        Recipe("odd_calculators.Odd", {"epsilon": e}, python, TESTS) for e in (0.1, 0.2) for python in ("", str(other))
    ]
    found = evaluate(recipes, [crystal()])
    assert found[0].energy == found[1].energy
    assert found[2].energy == found[3].energy == pytest.approx(2 * found[0].energy)
    places = {id(interpreter(one, 1)) for one in recipes}
    assert len(places) == 2


@pytest.mark.parametrize("served", [False, True])
def test_stress_counts_only_with_a_full_cell(served: bool) -> None:
    def stress(what: str, atoms: Atoms) -> np.ndarray | None:
        if not served:
            return server.evaluated(Odd(what), atoms).get("stress")
        found = evaluate([recipe(what)], [atoms])[0].stress[0]
        return found if np.isfinite(found).all() else None

    assert stress("stress of a molecule", molecule("H2O")) is None
    assert stress("stress of a molecule", slab()) is None
    assert stress("stress is NaN", crystal()) is None
    expected = stress("", crystal())
    np.testing.assert_allclose(stress("stress 3x3", crystal()), expected, atol=1e-7)
    mirrored = crystal()
    mirrored.set_cell(mirrored.cell.array * [[1], [1], [-1]])
    np.testing.assert_allclose(stress("left-handed", mirrored), expected, atol=1e-12)
    calculator = ServedCalculator(Recipe("odd_calculators.NoStress", folder=TESTS)) if served else NoStress()
    assert "stress" not in server.evaluated(calculator, crystal())


def test_results_count_not_what_is_declared() -> None:
    plain = server.evaluated(Odd(), crystal())
    found = server.evaluated(Odd("free energy"), crystal())
    assert found["energy"] == plain["energy"]
    assert found["plain_energy"] == plain["energy"] + 1.0
    assert "energies" in plain
    assert "energies" not in server.evaluated(Odd("energies of another kind"), crystal())
    (single,) = evaluate([recipe("single")], [crystal()])
    assert single.energy.dtype == single.forces.dtype == float
    assert single.energy[0] == pytest.approx(plain["energy"], abs=1e-5)


def test_a_calculator_that_prints_says_nothing_here(capfd: pytest.CaptureFixture[str]) -> None:
    assert not evaluate([recipe("prints")], [crystal()])[0].errors
    assert capfd.readouterr() == ("", "")


def test_errors_are_one_line_for_the_structure_that_has_them() -> None:
    frames = [bulk("Si"), crystal(), bulk("Si")]
    found = evaluate([recipe("only silicon"), recipe("raises at the door"), recipe("no forces")], frames)
    assert found[0].errors == {1: "KeyError: np.int64(29)"}
    assert np.isfinite(found[0].energy).tolist() == [True, False, True]
    assert found[1].errors == dict.fromkeys(range(3), "AttributeError: structure has no charge")
    assert all("forces" in text for text in found[2].errors.values())
    atoms = crystal()
    atoms.calc = ServedCalculator(recipe("only silicon"))
    with pytest.raises(AseError, match=r"KeyError: np\.int64\(29\)"):
        atoms.get_potential_energy()


def test_one_periodic_direction_taken_for_three_is_refused() -> None:
    (found,) = evaluate([recipe("three directions for one")], [slab(), crystal(), molecule("H2O")])
    assert list(found.errors) == [0]
    assert found.errors[0].startswith("takes pbc = TTF for another (its energy changes by ")
    assert found.errors[0].endswith("make the structure periodic in all directions, with vacuum")
    assert not evaluate([recipe()], [slab()])[0].errors


def test_a_structure_that_fails_proves_nothing_of_periodicity() -> None:
    """The slab is refused whatever was tried before it."""
    failing = slab()
    failing.positions[1] = failing.positions[0]
    evaluate([recipe("three directions for one", epsilon=0.31)], [failing])
    assert evaluate([recipe("three directions for one", epsilon=0.31)], [slab()])[0].errors


def test_two_threads_do_not_wait_for_each_other() -> None:
    a, b = recipe(epsilon=0.1), Recipe("odd_calculators.Odd", {"epsilon": 0.2}, sys.executable, f"{TESTS}/")
    assert interpreter(a, 1) is not interpreter(b, 1)
    found: list[float] = []

    def work(recipes: list[Recipe]) -> None:
        for _ in range(40):
            evaluate(recipes, [crystal()])
        found.append(float(evaluate(recipes, [crystal()])[0].energy[0]))

    threads = [threading.Thread(target=work, args=(order,), daemon=True) for order in ([a, b], [b, a])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(found) == 2
    assert max(found) != min(found)


def test_far_from_the_origin_nothing_is_lost() -> None:
    far = crystal()
    far.positions += 1e6 * far.cell.array[0]
    near, away = (evaluate([recipe("single")], [atoms])[0] for atoms in (crystal(), far))
    np.testing.assert_allclose(away.forces, near.forces, atol=1e-5)


BAD = {
    "no such module": (
        recipe(name="nowhere.Potential"),
        "nowhere.Potential: ModuleNotFoundError: No module",
    ),
    "no such class": (recipe(name="odd_calculators.Even"), "AttributeError: module 'odd_calculators' has no attribute"),
    "no calculator": (Recipe("builtins.dict"), "builtins.dict made a dict: expected an ASE calculator"),
    "parameters": (
        recipe(name="odd_calculators.factory", weakness=1),
        "factory with {'weakness': 1}: TypeError: ",
    ),
    "raises": (recipe("needs a GPU"), "RuntimeError: no CUDA device (in "),
    "misspelt": (Recipe("ase.calculators.lj.LennardJones", {"sigm": 1.0}), "no parameter sigm: did you mean sigma?"),
    "no such interpreter": (Recipe("x.Y", python="/none/python"), "python = /none/python: No such file or directory"),
    "not Python": (Recipe("x.Y", python="/bin/ls"), "expected an interpreter of Python that has ase"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_made_is_told_in_one_line(name: str) -> None:
    one, message = BAD[name]
    with pytest.raises(ConfigError) as caught:
        evaluate([one], [crystal()])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interpreter_without_ase(tmp_path: Path) -> None:
    """A real one: a virtual environment in which nothing was installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    python = tmp_path / "bare/bin/python"
    with pytest.raises(
        ConfigError, match=r"No module named 'ase': alflow needs ase and numpy there: .* -m pip install ase"
    ):
        evaluate([Recipe("ase.calculators.emt.EMT", python=str(python))], [crystal()])


def test_a_calculator_that_kills_its_process_is_told_and_the_next_goes_on() -> None:
    with pytest.raises(CalculatorError, match=r"its process ended by signal SIGSEGV \(.*segmentation fault soon\)"):
        evaluate([recipe("dies")], [crystal()])
    assert not evaluate([recipe()], [crystal()])[0].errors


def test_a_missing_answer_is_not_taken_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between question and answer: what comes afterwards is the answer to what is asked afterwards."""
    expected = evaluate([recipe()], [crystal()])[0].energy

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(server, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate([recipe()], [slab()])
    np.testing.assert_array_equal(evaluate([recipe()], [crystal()])[0].energy, expected)


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """In the middle of a calculation, and whatever kills the parent."""
    (tmp_path / "slow.py").write_text(
        "import time\nfrom ase.calculators.emt import EMT\n"
        "class Slow(EMT):\n    def calculate(self, *args):\n        time.sleep(600)\n"
    )
    code = (
        "from alflow.workers.interpreters import evaluate\nfrom alflow.workers.recipe import Recipe\n"
        "from ase.build import bulk\n"
        f"evaluate([Recipe('slow.Slow', folder={str(tmp_path)!r})], [bulk('Cu')])\n"
    )
    parent = psutil.Popen([sys.executable, "-c", code])
    children: list[psutil.Process] = []
    while not children or children[0].cpu_times().user < 0.1:
        time.sleep(0.05)
        children = parent.children(recursive=True)
        assert parent.poll() is None
    time.sleep(0.5)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_processes_end_when_they_are_closed() -> None:
    evaluate([recipe()], [crystal()])
    place = interpreter(recipe(), 1)
    process = place._process
    interpreters.close_all()
    assert process.poll() is not None
    assert not evaluate([recipe()], [crystal()])[0].errors
