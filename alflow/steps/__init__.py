"""The five steps of a cycle, each a function from settings and earlier records to a record.

``sample -> select -> label -> train -> assess``; cycle 0 labels, trains on and assesses the initial structures.
Steps read and return records; committing them is the workflow's business. What is long inside a step is durable in
pieces: a walker's segments and every single reference result, each a file of its own from the moment it exists.
"""

from alflow.steps.assessing import assess, wanted
from alflow.steps.context import Context, baseline_method
from alflow.steps.labelling import label
from alflow.steps.production import Asked, produce
from alflow.steps.sampling import sample
from alflow.steps.selecting import select
from alflow.steps.training import train

__all__ = ["Asked", "Context", "assess", "baseline_method", "label", "produce", "sample", "select", "train", "wanted"]
