"""What defines members that a program trains, and what becomes of trainings that fail."""

import re
from typing import Any, Self

from pydantic import Field, model_validator

from alflow.models.calculators.settings import DOTTED
from alflow.section import Section
from alflow.workers.attempts import Attempts
from alflow.workers.recipe import PYTHON, Parameters, mapped

WORDS = ("train", "validation", "output", "seed", "member", "python")
"""What stands in braces in a command, and is filled in for each member."""

_BRACES = re.compile(r"\{([a-z]+)\}")


class TrainingFailures(Section):
    """What becomes of trainings that fail, by the reason: further attempts with settings changed, as in [failures]."""

    crashed: Attempts = Field(({},), description="the program ended in an error or by a signal")
    timed_out: Attempts = Field((), description="it took longer than [executor] allows")
    out_of_memory: Attempts = Field((), description="it needed more memory than there is")
    no_output: Attempts = Field(({},), description="it ended well and left nothing at {output}")
    not_converged: Attempts = Field((), description="it says that it did not converge")


class TrainedKeys(Section):
    """What alflow.toml and the keywords of ``alflow.fit`` have in common."""

    n_members: int = Field(8, ge=2, le=256, description="members of the committee; 8 or more, to be calibrated")
    command: str = Field(
        min_length=1,
        description="program with its arguments; {train}, {validation}, {output}, {seed}, {member} and {python} are "
        "filled in for each member, and files of the run directory are found",
    )
    calculator: str = Field(
        pattern=DOTTED, description="module.Class of an ASE calculator, or of a function that makes one"
    )
    parameters: Parameters = Field(
        description="its keyword arguments, a table in which {model} stands for what the command left at {output}"
    )
    python: str | None = Field(None, min_length=1, description=PYTHON)
    validation: float = Field(0.1, gt=0, lt=1, description="share of a member's half that goes to {validation}")
    start: str | None = Field(
        None,
        min_length=1,
        description="arguments added from the second cycle on; {start} is the member's model of the cycle before",
    )
    executor: dict[str, Any] = Field({}, description="settings of [executor] that are changed for trainings, a table")
    failures: TrainingFailures = Field(TrainingFailures(), description="what becomes of trainings that fail")

    @model_validator(mode="after")
    def _words_are_known(self) -> Self:
        for key, known, needed in (("command", WORDS, ("train", "output")), ("start", ("start", *WORDS), ("start",))):
            text = getattr(self, key)
            found = _BRACES.findall(text or "")
            for word in found:
                if word not in known:
                    msg = f"{key}: nothing is known of {{{word}}}: expected {', '.join(f'{{{w}}}' for w in known)}"
                    raise ValueError(msg)
            missing = [word for word in needed if text is not None and word not in found]
            if missing:
                msg = f"{key}: {{{missing[0]}}} is not in it: say where the program is to find it"
                raise ValueError(msg)
        for reason in TrainingFailures.model_fields:
            for key in (key for changes in getattr(self.failures, reason) for key in changes):
                if key not in {"command", "start", "executor"}:
                    msg = f"failures.{reason}: {key} cannot be changed: expected command, start or executor"
                    raise ValueError(msg)
        texts: list[str] = []
        mapped(self.parameters, texts.append)
        if not any("{model}" in text for text in texts):
            msg = "parameters: {model} is not in them: say which parameter of the calculator takes the model"
            raise ValueError(msg)
        return self
