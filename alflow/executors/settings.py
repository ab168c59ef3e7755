"""The table ``[executor]``: where reference calculations run."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from alflow.section import Count, Positive, Section

_TIMEOUT = "a calculation, of the reference or the baseline, is killed after so many seconds"


class Resources(Section):
    """What every kind has."""

    threads: Count = Field(1, description="of each calculation; tblite gives the same digits every time only with 1")
    timeout: Positive | None = Field(None, description=_TIMEOUT)
    environment: dict[str, str] = Field({}, description="environment variables of calculations, a table")

    @property
    def cores(self) -> int:
        """That a calculation has, as far as this table says: not those of MPI ranks that a local command starts."""
        return self.threads


class Local(Resources):
    """Processes on this machine."""

    kind: Literal["local"] = Field("local", description="processes on this machine")
    workers: Count | None = Field(None, description="processes at once; all cores over `threads` by default")
    pin: bool = Field(True, description="each to cores of its own, which no other worker of alflow has")


class Cluster(Resources):
    """What jobs of a queue need."""

    workers: Count | None = Field(None, description="processes on this machine for everything but the reference")
    partition: str | None = Field(None, min_length=1, description="queue that jobs go to; the default one")
    account: str | None = Field(None, min_length=1, description="that pays for them")
    wall_time: Count = Field(60, description="limit of a job, minutes")
    ranks: Count = Field(1, description="MPI ranks that a job has room for")
    nodes: Count = Field(1, description="of a job")
    memory: Positive | None = Field(None, description="of a job on each node, GB; the default of the queue")
    setup: tuple[str, ...] = Field(
        (), strict=False, description="lines of shell before a job begins: module load ..., source .../activate"
    )
    directives: tuple[str, ...] = Field(
        (), strict=False, description="further lines for the queue, without #SBATCH, #PBS or #BSUB: --gres=gpu:1"
    )

    @property
    def cores(self) -> int:
        """That a calculation has: those of all its MPI ranks."""
        return self.threads * self.ranks


class Slurm(Cluster):
    """A job of Slurm for each calculation."""

    kind: Literal["slurm"] = Field(description="a job of Slurm for each calculation; it outlives alflow")
    max_jobs: Count = Field(100, description="in the queue at once; others wait in alflow")


class Parsl(Cluster):
    """Pilot jobs for many calculations."""

    kind: Literal["parsl"] = Field(description="pilot jobs, shared by many short calculations")
    provider: Literal["slurm", "pbs", "lsf", "kubernetes", "local"] = Field("slurm", description="where pilots run")
    pilots: Count = Field(1, description="at once, at most")
    per_pilot: Count = Field(1, description="calculations at once in each pilot")
    loopback: bool = Field(False, description="pilots run on this very machine: they reach alflow at 127.0.0.1")
    config: str | None = Field(
        None, min_length=1, description="module:function of your own that returns a parsl.Config; module.py may be here"
    )


def _kind(value: Any) -> str | None:
    kind = value.get("kind", "local") if isinstance(value, dict) else getattr(value, "kind", "local")
    return kind if isinstance(kind, str) else None


Executor = Annotated[
    Annotated[Local, Tag("local")] | Annotated[Slurm, Tag("slurm")] | Annotated[Parsl, Tag("parsl")],
    Discriminator(_kind),
]
