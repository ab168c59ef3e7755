#!/usr/bin/env bash
# mace-torch 0.3.16 with torch 2.13.0 and ASE 3.29.0: two trainings with the same --name and --seed in one working directory, each with a
# --model_dir of its own: the second writes the model of the first.
#
# One would expect two models, as the data differ and --restart_latest is not given. Seen: checkpoints go to the working directory and are
# told apart by name and seed alone, and at the end mace_run_train loads the one with the highest epoch. The first training here has 8
# epochs, the second has 2, so that is one of the first: the second training runs on its own data and then saves the first model under the
# second --model_dir, with its E0s; the exit code is 0. The log names the checkpoint, but does not warn. With --work_dir for each training
# the second model is its own (shown beside it). So whoever trains many models by program has to give each a --work_dir that is empty.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mace-torch==0.3.16 ase==3.29.0
cd "$folder"
venv/bin/python - <<'E2'
import ase.io
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

random = np.random.default_rng(1)
for name, shift in (("first", 0.0), ("second", 10.0)):
    frames = []
    for _ in range(12):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += random.normal(0, 0.1, atoms.positions.shape)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy() + shift * len(atoms), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    ase.io.write(f"{name}-train.xyz", frames[:8], format="extxyz")
    ase.io.write(f"{name}-valid.xyz", frames[8:], format="extxyz")
E2
train() { # name of the log, data, further options
  local name=$1 data=$2
  shift 2
  venv/bin/mace_run_train --name=cu --train_file="$data-train.xyz" --valid_file="$data-valid.xyz" --energy_key=energy \
    --forces_key=forces --E0s=average --device=cpu --default_dtype=float64 --seed=1 --plot=False --num_channels=4 --max_L=0 \
    --max_ell=1 --correlation=1 --r_max=4.0 --batch_size=4 "$@" >"$name.log" 2>&1 ||
    { tail -n 5 "$name.log" >&2; echo "this has changed: the training of $name fails" >&2; exit 1; }
}
train first first --max_num_epochs=8 --model_dir=first
train second second --max_num_epochs=2 --model_dir=second
train separate second --max_num_epochs=2 --work_dir=separate
found=$(venv/bin/python -W ignore - <<'E2' | grep -v ^cuequivariance
import ase.io
import numpy as np
import torch
from mace.calculators import MACECalculator

first = torch.load("first/cu.model", weights_only=False).state_dict()
for name, data in (("first", "first"), ("second", "second"), ("separate", "second")):
    calculator = MACECalculator(model_paths=f"{name}/cu.model", device="cpu", default_dtype="float64")
    state = calculator.models[0].state_dict()
    same = all(torch.equal(state[key], first[key]) for key in first)
    errors = []
    for atoms in ase.io.read(f"{data}-valid.xyz", ":"):
        label = atoms.get_potential_energy()
        atoms.calc = calculator
        errors.append((atoms.get_potential_energy() - label) / len(atoms))
    e0 = state["atomic_energies_fn.atomic_energies"].item()
    off = 10 * round(abs(np.mean(errors)) / 10)
    print(f"{name}: {'the first' if same else 'another'} model, E0 {e0:.1f}, energies off by about {off} eV per atom")
E2
)
expected="first: the first model, E0 0.1, energies off by about 0 eV per atom
second: the first model, E0 0.1, energies off by about 10 eV per atom
separate: another model, E0 10.1, energies off by about 0 eV per atom"
echo "$found"
if [ "$found" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
