"""i-PI's own weighted baseline, on given numbers; and the numbers that i-PI keeps for its regression tests."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

DATA = Path(__file__).parents[2] / "shared" / "data" / "ipi"


def ffcommittee(
    energies: np.ndarray, forces: np.ndarray, virials: np.ndarray, alpha: float, s_b: float,
    baseline: tuple[float, np.ndarray, np.ndarray],
) -> tuple[float, np.ndarray, np.ndarray, float]:  # fmt: skip
    """Energy, forces (N, 3), virial (3, 3) and weight by ``ipi.engine.forcefields.FFCommittee``.

    Of members with ``energies`` (M,), ``forces`` (M, N, 3) and ``virials`` (M, 3, 3), and a baseline with the same
    three; any units. Its ``weights`` argument is left out: i-PI ignores it.
    """
    from ipi.engine.forcefields import FFCommittee

    members = [*zip(energies, forces, virials, strict=True), baseline]
    names = [*(f"member {m}" for m in range(len(energies))), "baseline"]
    fields = [SimpleNamespace(name=name, release=lambda _: None) for name in names]
    peer = FFCommittee(fflist=fields, alpha=alpha, baseline_name="baseline", baseline_uncertainty=s_b)
    handles = [{"result": [e, np.ravel(f), v, {}], "status": "Done"} for e, f, v in members]
    request = {"pos": np.zeros(forces[0].size), "ff_handles": handles}
    peer.gather(request)
    energy, force, virial, extras = request["result"]
    return float(energy), force.reshape(-1, 3), virial, float(extras["wb_mixing"][0])


def reference_data() -> dict[str, np.ndarray]:
    """Member energies (6, 2), forces (6, 2, N, 3) and virials (6, 2, 3, 3) of steps 0, 2, ... 10; Ha, bohr.

    Of i-PI's regression test. The virials are not symmetric, and its files disagree in their transpose; they are taken
    as they stand, so that a transpose on the way would show.
    """

    def blocks(name: str) -> list[np.ndarray]:
        text = (DATA / f"ref_simulation.{name}_0").read_text().split("#EXTRAS")[1:]
        return [np.array([line.split() for line in block.splitlines()[1:] if line.strip()], float) for block in text]

    energies = np.array([block[0] for block in blocks("committee_pot")])
    forces = np.array([block.reshape(2, -1, 3) for block in blocks("committee_force")])
    virials = np.array([block.reshape(2, 3, 3) for block in blocks("committee_virial")])
    return {"energies": energies, "forces": forces, "virials": virials}
