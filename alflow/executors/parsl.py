"""Pilot jobs for many calls, by Parsl: allocations of a queue that several short calculations share."""

import importlib
import shlex
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from alflow.config import Parsl
from alflow.errors import ConfigError
from alflow.executors import remote
from alflow.executors.local import WorkerDiedError, WorkerStartError
from alflow.executors.slurm import job_name, time_limit
from alflow.executors.slurm_commands import cancel_jobs, require_slurm

_HEARTBEAT = 5, 20  # s between signs of life, and without one until a pilot counts as lost


class ParslExecutor(Executor):
    """Calls in pilot jobs.

    Pilots that an alflow which was killed has left behind are cancelled first: what they had finished is on disk, and
    what they had not would be done twice.

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
        self._kernel.cleanup()
        if self._in_slurm:
            cancel_jobs(self._name)

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

    local = section.provider == "local"
    executor = HighThroughputExecutor(
        label="alflow",
        address="127.0.0.1" if local or section.loopback else address_by_hostname(),
        max_workers_per_node=section.per_pilot,
        heartbeat_period=_HEARTBEAT[0],
        heartbeat_threshold=_HEARTBEAT[1],
        interchange_launch_cmd=[
            sys.executable,
            "-m",
            "alflow.executors.tether",
            str(Path(sys.executable).parent / "interchange.py"),
        ],
        provider=_provider(section, name),
    )
    return Config(
        executors=[executor], run_dir=str(folder), retries=0, strategy="simple", initialize_logging=False,
        exit_mode="cleanup",
    )  # fmt: skip


def _provider(section: Parsl, name: str) -> Any:
    from parsl import providers as known
    from parsl.launchers import SimpleLauncher

    providers: Any = known  # partly without types

    hours, minutes = divmod(section.wall_time, 60)
    here = shlex.quote(str(Path(sys.executable).parent))
    common: dict[str, Any] = {
        "nodes_per_block": section.nodes, "init_blocks": 0, "min_blocks": 0, "max_blocks": section.pilots,
        "worker_init": "\n".join([*section.setup, f"export PATH=$PATH:{here}"]),
    }  # fmt: skip
    queue: dict[str, Any] = {
        "walltime": f"{hours:02d}:{minutes:02d}:00",
        "launcher": SimpleLauncher(),
        "account": section.account,
    }
    if section.provider == "local":
        return providers.LocalProvider(**common)
    if section.provider == "slurm":
        options = [f"--job-name={name}", f"--ntasks-per-node={section.ranks * section.per_pilot}",
                   f"--cpus-per-task={section.threads}", *section.directives]  # fmt: skip
        if section.memory is not None:  # which Parsl would round to whole GB
            options.append(f"--mem={round(1024 * section.memory)}M")
        return providers.SlurmProvider(
            partition=section.partition, exclusive=False,
            scheduler_options="\n".join(f"#SBATCH {option}" for option in options), **common, **queue,
        )  # fmt: skip
    further = "\n".join(section.directives)
    of_queue = providers.PBSProProvider if section.provider == "pbs" else providers.LSFProvider
    if section.provider in {"pbs", "lsf"}:
        return of_queue(queue=section.partition, scheduler_options=further, **common, **queue)
    msg = 'executor.provider = "kubernetes" needs an image: name a function that returns a parsl.Config in config'
    raise ConfigError(msg)


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
    return found
