"""Pilot jobs for many calls, by Parsl: allocations of a queue that several short calculations share."""

import importlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from alflow.errors import ConfigError
from alflow.executors import remote
from alflow.executors.local import WorkerDiedError, WorkerStartError
from alflow.executors.settings import Parsl
from alflow.executors.slurm import job_name, time_limit
from alflow.executors.slurm_commands import cancel_jobs, require_slurm

_PROGRAMS = Path(sys.executable).parent  # those of Parsl are here, on PATH or not
_INTERCHANGE = [sys.executable, "-m", "alflow.executors.tether", str(_PROGRAMS / "interchange.py")]
_HEARTBEAT = 5, 20  # s between signs of life, and without one until a pilot counts as lost


class ParslExecutor(Executor):
    """Calls in pilot jobs.

    Pilots that an alflow which was killed has left behind must end first: what they had finished is on disk, and what
    they had not would be done twice. In Slurm they are cancelled; elsewhere they end by themselves when they have not
    heard of it for some time (heartbeat_threshold), and this waits so long.

    Parameters
    ----------
    section : Parsl
        The table ``[executor]``.
    directory : Path
        The run directory, on a file system that the pilots see too.
    purpose : str
        Part of the name of the jobs.

    Raises
    ------
    ConfigError
        Parsl or the queue is not installed, or there is no such configuration.
    """

    def __init__(self, section: Parsl, directory: Path, purpose: str = "") -> None:
        try:
            from parsl import DataFlowKernel
            from parsl.concurrent import ParslPoolExecutor
        except ImportError as error:
            msg = f"executor.kind = \"parsl\" needs Parsl ({error}): pip install 'alflow[parsl]'"
            raise ConfigError(msg) from error
        self._section = section
        self._name = job_name(directory, purpose)
        self._in_slurm = section.provider == "slurm" and section.config is None
        if self._in_slurm:
            require_slurm('executor.provider = "slurm"')
            cancel_jobs(self._name)
        folder = directory.absolute() / "work" / "parsl"
        config = _configured(section, directory) if section.config else _pilots(section, self._name, folder)
        self._open = folder / f"{self._name}.open"
        if self._open.exists() and not self._in_slurm:
            time.sleep(max(getattr(executor, "heartbeat_threshold", 0) for executor in config.executors))
        folder.mkdir(parents=True, exist_ok=True)
        self._open.touch()
        self._kernel: Any = DataFlowKernel(config)
        self._pool: Any = ParslPoolExecutor(dfk=self._kernel)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        """Queue a call."""
        section = self._section
        future: Future[Any] = Future()
        inner = self._pool.submit(remote.run, fn, args, section.threads, time_limit(section), section.environment)
        inner.add_done_callback(lambda done: _hand_on(done, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - never waits long
        """End the pilots."""
        try:
            self._kernel.cleanup()
        finally:
            if self._in_slurm:
                cancel_jobs(self._name)
        self._open.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        """End the pilots: everything has been waited for, or nobody waits any more."""
        self.shutdown()


def _hand_on(inner: Future[Any], future: Future[Any]) -> None:
    from parsl.executors.errors import BadStateException
    from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

    error = inner.exception()
    if error is None:
        future.set_result(inner.result())
    elif isinstance(error, ManagerLost | WorkerLost):
        future.set_exception(WorkerDiedError(f"its pilot job was lost: {error}"))
    elif isinstance(error, BadStateException):
        future.set_exception(WorkerStartError(f"no pilot job could be started: {' '.join(str(error).split())}"))
    else:
        future.set_exception(error)


def _pilots(section: Parsl, name: str, folder: Path) -> Any:
    """Parsl's configuration, from the settings."""
    from parsl import Config
    from parsl.addresses import address_by_hostname
    from parsl.executors import HighThroughputExecutor

    try:
        address = "127.0.0.1" if section.provider == "local" or section.loopback else address_by_hostname()
    except OSError as error:
        msg = f"no address of this machine is known ({error}): name a function that returns a parsl.Config in config"
        raise ConfigError(msg) from error
    executor = HighThroughputExecutor(
        label="alflow",
        address=address,
        max_workers_per_node=section.per_pilot,
        heartbeat_period=_HEARTBEAT[0],
        heartbeat_threshold=_HEARTBEAT[1],
        interchange_launch_cmd=_INTERCHANGE,
        provider=_provider(section, name),
    )
    return Config(
        executors=[executor], run_dir=str(folder), retries=0, strategy="simple", initialize_logging=False,
        exit_mode="cleanup",
    )  # fmt: skip


def _provider(section: Parsl, name: str) -> Any:
    """Parsl's provider of pilots, each with as many cores as its calculations need together."""
    from parsl import providers as known
    from parsl.launchers import SimpleLauncher

    providers: Any = known  # partly without types

    hours, minutes = divmod(section.wall_time, 60)
    here = shlex.quote(str(_PROGRAMS))
    common: dict[str, Any] = {
        "nodes_per_block": section.nodes, "init_blocks": 0, "min_blocks": 0, "max_blocks": section.pilots,
        "worker_init": "\n".join([*section.setup, f"export PATH=$PATH:{here}"]),
    }  # fmt: skip
    if section.provider == "local":
        return providers.LocalProvider(**common)
    common |= {"walltime": f"{hours:02d}:{minutes:02d}:00", "launcher": SimpleLauncher()}
    ranks = -(-section.ranks * section.per_pilot // section.nodes)  # on each node
    megabytes = None if section.memory is None else round(1024 * section.memory)  # Parsl itself knows whole GB only
    if section.provider == "slurm":
        options = [f"--job-name={name}", f"--ntasks-per-node={ranks}", f"--cpus-per-task={section.threads}"]
        options += [f"--mem={megabytes}M"] if megabytes else []
        return providers.SlurmProvider(
            partition=section.partition, account=section.account, exclusive=False,
            scheduler_options=_directives("#SBATCH", options, section), **common,
        )  # fmt: skip
    if section.provider == "pbs":
        chunk = f"mpiprocs={ranks}:ompthreads={section.threads}{f':mem={megabytes}mb' if megabytes else ''}"
        return providers.PBSProProvider(
            queue=section.partition, account=section.account, cpus_per_node=ranks * section.threads,
            select_options=chunk, scheduler_options=_directives("#PBS", [], section), **common,
        )  # fmt: skip
    if section.provider == "lsf":
        cores = ranks * section.threads
        options = [f'-R "rusage[mem={megabytes}MB]"'] if megabytes else []
        common.pop("nodes_per_block")
        return providers.LSFProvider(
            queue=section.partition, project=section.account, request_by_nodes=False, bsub_redirection=True,
            cores_per_block=section.nodes * cores, cores_per_node=cores,
            scheduler_options=_directives("#BSUB", options, section), **common,
        )  # fmt: skip
    msg = 'executor.provider = "kubernetes" needs an image: name a function that returns a parsl.Config in config'
    raise ConfigError(msg)


def _directives(prefix: str, options: Sequence[str], section: Parsl) -> str:
    """Lines of a submitted script, the user's last: they count."""
    return "\n".join(f"{prefix} {option}" for option in [*options, *section.directives])


def _configured(section: Parsl, directory: Path) -> Any:
    """The configuration that a function of the user returns."""
    from parsl import Config

    module, _, function = str(section.config).partition(":")
    sys.path.insert(0, str(directory.absolute()))
    try:
        found = getattr(importlib.import_module(module), function)()
    except Exception as error:  # whatever the user's code does
        msg = f"executor.config = {section.config!r}: {type(error).__name__}: {error}; expected module:function"
        raise ConfigError(msg) from error
    finally:
        sys.path.remove(str(directory.absolute()))
    if not isinstance(found, Config):
        msg = f"executor.config = {section.config!r}: expected a parsl.Config, found {type(found).__name__}"
        raise ConfigError(msg)
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{_PROGRAMS}"
    executors: list[Any] = list(found.executors)
    for executor in executors:
        if getattr(executor, "interchange_launch_cmd", None) == ["interchange.py"]:
            executor.interchange_launch_cmd = _INTERCHANGE
    return found
