"""The five steps of a cycle, each a function from settings and earlier records to a record.

``sample -> select -> label -> train -> assess``; cycle 0 labels, trains on and assesses the initial structures.
Steps read and return records; committing them is the workflow's business. What is long inside a step is durable in
pieces: a walker's segments and every single reference result, each a file of its own from the moment it exists.
"""

from alflow.steps.assessing import assess, wanted
from alflow.steps.calculating import TO_LABEL
from alflow.steps.context import Context
from alflow.steps.labelling import label, take_in, to_label, try_again
from alflow.steps.production import Asked, produce
from alflow.steps.sampling import sample
from alflow.steps.selecting import select
from alflow.steps.training import train

__all__ = [
    "TO_LABEL",
    "Asked",
    "Context",
    "assess",
    "label",
    "produce",
    "sample",
    "select",
    "take_in",
    "to_label",
    "train",
    "try_again",
    "wanted",
]
