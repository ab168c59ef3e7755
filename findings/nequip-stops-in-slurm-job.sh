#!/usr/bin/env bash
# nequip 0.19.1 with lightning 2.6.6, torch 2.13.0 and ASE 3.29.0: in the environment of a Slurm job with several tasks (--ntasks=4), a
# training on one CPU stops with an error.
#
# One would expect nequip-train with "devices: 1" to train in the process that was started. Seen: lightning finds SLURM_NTASKS, takes the
# process for one that srun started, and refuses --ntasks above 1 without --ntasks-per-node. The variables alone do that: they are set by
# hand here, Slurm is not needed. It trains if the job gives --ntasks-per-node too, if the job is named bash, or with the plugin
# LightningEnvironment in the configuration of the trainer (all shown beside it). So a program that runs in such a job and starts its
# trainings as ordinary processes fails there, though it works elsewhere; the plugin makes it independent of how the job was submitted.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1
unset "${!SLURM_@}"
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
frames = []
for _ in range(12):
    atoms = bulk("Cu", cubic=True)
    atoms.positions += random.normal(0, 0.1, atoms.positions.shape)
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    frames.append(atoms)
ase.io.write("train.xyz", frames[:8], format="extxyz")
ase.io.write("valid.xyz", frames[8:], format="extxyz")
E2
cat >training.yaml <<'E2'
run: [train]
plugins: []
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  train_file_path: train.xyz
  val_file_path: valid.xyz
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
  enable_checkpointing: false
  plugins: ${plugins}
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
train() { # what is printed in front, variables for the environment, further options
  local name=$1 variables=$2 result
  shift 2
  # shellcheck disable=SC2086 # the variables are words without spaces
  if env $variables venv/bin/nequip-train -cp "$folder" -cn training hydra.run.dir=output "$@" >log 2>&1; then
    result="trained"
  else
    result=$(grep -Eo '^(RuntimeError|ValueError): .*' log | tail -n 1 || tail -n 1 log)
  fi
  echo "$name: $result"
}
several="SLURM_JOB_ID=1 SLURM_JOB_NAME=loop SLURM_NTASKS=4"
plugin="plugins=[{_target_: lightning.pytorch.plugins.environments.LightningEnvironment}]"
found="$(train "without Slurm" "")
$(train "4 tasks" "$several")
$(train "4 tasks per node" "$several SLURM_NTASKS_PER_NODE=4")
$(train "4 tasks, named bash" "$several SLURM_JOB_NAME=bash")
$(train "4 tasks, plugin" "$several" "$plugin")"
expected="without Slurm: trained
4 tasks: RuntimeError: You set \`--ntasks=4\` in your SLURM bash script, but this variable is not supported. HINT: Use \`--ntasks-per-node=4\` instead.
4 tasks per node: trained
4 tasks, named bash: trained
4 tasks, plugin: trained"
echo "$found"
if [ "$found" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
