#!/usr/bin/env bash
# nequip 0.19.1 with lightning 2.6.6, torch 2.13.0 and ASE 3.29.0: a training into a folder that holds a best.ckpt leaves that file as it is
# and writes best-v1.ckpt.
#
# One would expect best.ckpt to be the best model of the latest training, as the ModelCheckpoint of the configuration has "filename: best".
# Seen: lightning adds a version to the name rather than write over a file of an earlier training (its documentation says so), and best.ckpt
# remains the model of the first data; the exit code is 0. A warning says that the folder is not empty, not that the name is another. With
# "enable_version_counter: false" in the configuration best.ckpt is written over (shown beside it). So whoever trains by program, with a
# fixed name to look for, has to train into an empty folder or set that option, or goes on with an old model.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1
unset "${!SLURM_@}" # or the trainings stop when this is run inside a job of Slurm: see nequip-stops-in-slurm-job.sh
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nequip==0.19.1 lightning==2.6.6 ase==3.29.0
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
cat >training.yaml <<'E2'
run: [train]
name: ???
counter: true
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  train_file_path: ${name}-train.xyz
  val_file_path: ${name}-valid.xyz
  transforms:
    - _target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper
      model_type_names: [Cu]
    - _target_: nequip.data.transforms.NeighborListTransform
      r_max: 4.0
  train_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 4}
  val_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 4}
  stats_manager:
    _target_: nequip.data.CommonDataStatisticsManager
    dataloader_kwargs: {batch_size: 4}
    type_names: [Cu]
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  devices: 1
  max_epochs: 2
  logger: false
  enable_progress_bar: false
  callbacks:
    - _target_: lightning.pytorch.callbacks.ModelCheckpoint
      monitor: val0_epoch/weighted_sum
      dirpath: models
      filename: best
      enable_version_counter: ${counter}
training_module:
  _target_: nequip.train.NequIPLightningModule
  loss: {_target_: nequip.train.EnergyForceLoss, coeffs: {total_energy: 1.0, forces: 1.0}}
  val_metrics: {_target_: nequip.train.EnergyForceMetrics, coeffs: {per_atom_energy_rmse: 1.0, forces_rmse: 1.0}}
  optimizer: {_target_: torch.optim.Adam, lr: 0.01}
  model:
    _target_: nequip.model.NequIPGNNModel
    seed: 1
    model_dtype: float64
    type_names: [Cu]
    r_max: 4.0
    num_layers: 1
    l_max: 1
    num_features: 4
    avg_num_neighbors: ${training_data_stats:num_neighbors_mean}
    per_type_energy_shifts: ${training_data_stats:per_atom_energy_mean}
E2
train() { # options
  venv/bin/nequip-train -cp "$folder" -cn training hydra.run.dir=output "$@" >log 2>&1 ||
    { tail -n 5 log >&2; echo "this has changed: the training with $* fails" >&2; exit 1; }
}
look() { # what was done
  venv/bin/python -W ignore - "$1" <<'E2'
import pathlib
import sys

import torch

found = []
for path in sorted(pathlib.Path("models").iterdir()):
    checkpoint = torch.load(path, weights_only=False)
    data = checkpoint["hyper_parameters"]["info_dict"]["data"]["train_file_path"]
    (shift,) = [value for key, value in checkpoint["state_dict"].items() if key.endswith("per_type_energy_scale_shift.shifts")]
    found.append(f"{path.name} trained on {data}, energy shift {shift.item():.1f}")
print(f"{sys.argv[1]}: {'; '.join(found)}")
E2
}
train name=first
found=$(look first)
train name=second
found+=$'\n'$(look second)
train name=second counter=false
found+=$'\n'$(look "second without versions")
expected="first: best.ckpt trained on first-train.xyz, energy shift 0.1
second: best-v1.ckpt trained on second-train.xyz, energy shift 10.1; best.ckpt trained on first-train.xyz, energy shift 0.1
second without versions: best-v1.ckpt trained on second-train.xyz, energy shift 10.1; best.ckpt trained on second-train.xyz, energy shift 10.1"
echo "$found"
if [ "$found" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
