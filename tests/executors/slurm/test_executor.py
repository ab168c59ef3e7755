"""Executors of queues against programs that behave as those of Slurm, PBS and LSF do, on bad days too."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
from alflow.errors import ConfigError
from alflow.executors import (
    TaskTimeoutError,
    WorkerDiedError,
    WorkerMemoryError,
    WorkerStartError,
    remote,
    slurm_commands,
)
from alflow.executors import parsl as parsl_module
from alflow.executors import slurm as module
from alflow.executors.opening import check_nothing_runs
from alflow.executors.parsl import ParslExecutor
from alflow.executors.settings import Parsl, Slurm
from alflow.executors.slurm import SlurmExecutor, job_name, submission_script, time_limit

FAKE = Path(__file__).parent / "fake"
SECTION = Slurm(kind="slurm")


@dataclass(frozen=True)
class Named:
    """A task as the executor sees it."""

    failed: Path


def leave_line(path: Path, seconds: float = 0, *_: object) -> str:
    """Task: tell that it has begun, and work for a while."""
    with path.open("a") as file:
        file.write("begun\n")
    time.sleep(seconds)
    return "done"


def kill_job(*_: object) -> None:
    """Task: end like a job that Slurm kills, its whole process group."""
    parent = os.getppid()
    os.kill(parent, signal.SIGKILL)
    time.sleep(60)


def pilots(folder: str) -> int:
    """Task: count the pilots that run for a folder."""
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return sum("process_worker_pool" in command and folder in command and "python" in command for command in commands)


def refuse(*_: object) -> None:
    """Task: raise."""
    msg = "this one does not work"
    raise ValueError(msg)


class Cluster:
    """The state of the false queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs").mkdir(parents=True)

    def set(self, what: str, text: str = "") -> None:
        (self.folder / what).write_text(text)

    def clear(self, what: str) -> None:
        (self.folder / what).unlink()

    def calls(self) -> Counter[str]:
        path = self.folder / "calls"
        return Counter(path.read_text().split() if path.exists() else [])

    def running(self) -> list[int]:
        found = []
        for path in (self.folder / "jobs").iterdir():
            try:
                os.kill(int(path.name), 0)
            except ProcessLookupError:
                continue
            found.append(int(path.name))
        return found


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    found = Cluster(tmp_path / "cluster")
    monkeypatch.setenv("PATH", f"{FAKE}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(found.folder))
    monkeypatch.setenv("PYTHONPATH", str(FAKE.parent))
    monkeypatch.setattr(module, "_LOOK", 0.5)
    monkeypatch.setattr(module, "_SETTLE", 0.5)
    yield found
    for job in found.running():
        os.killpg(job, signal.SIGKILL)


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def lines(path: Path) -> int:
    return len(path.read_text().split()) if path.exists() else 0


class TestSlurm:
    def test_results_errors_and_nothing_left(self, tmp_path: Path, cluster: Cluster) -> None:
        """In a folder with a space in its name, too."""
        run = tmp_path / "a run"
        with SlurmExecutor(SECTION, run) as executor:
            futures = [executor.submit(leave_line, tmp_path / "log") for _ in range(3)]
            bad = executor.submit(refuse)
            assert [future.result(30) for future in futures] == ["done"] * 3
            with pytest.raises(ValueError, match="this one does not work"):
                bad.result(30)
        assert lines(tmp_path / "log") == 3
        assert not cluster.running()
        assert list((run / "work" / "slurm").iterdir()) == []

    def test_a_queue_that_is_silent_for_a_while_costs_nothing(self, tmp_path: Path, cluster: Cluster) -> None:
        with SlurmExecutor(SECTION, tmp_path) as executor:
            first = executor.submit(leave_line, tmp_path / "log", 3)
            wait_until(lambda: lines(tmp_path / "log") == 1)
            cluster.set("silent")
            assert first.result(30) == "done"
            second = executor.submit(leave_line, tmp_path / "log")
            assert second.result(30) == "done"
            cluster.clear("silent")
        assert lines(tmp_path / "log") == 2

    def test_a_refusal_is_told_at_first_and_waited_for_later(self, tmp_path: Path, cluster: Cluster) -> None:
        cluster.set("refuse", "sbatch: error: invalid partition specified: nowhere")
        executor = SlurmExecutor(SECTION, tmp_path / "first")
        with pytest.raises(
            WorkerStartError, match=r"no job could be submitted: sbatch: error: invalid .* \[executor\]$"
        ):
            executor.submit(leave_line, tmp_path / "log").result(30)
        executor.shutdown(cancel_futures=True)
        cluster.clear("refuse")
        with SlurmExecutor(SECTION, tmp_path / "second") as executor:
            assert executor.submit(leave_line, tmp_path / "log").result(30) == "done"
            cluster.set("refuse", "sbatch: error: QOSMaxSubmitJobPerUserLimit")
            later = executor.submit(leave_line, tmp_path / "log")
            wait_until(lambda: cluster.calls()["sbatch"] >= 3)
            assert not later.done()
            cluster.clear("refuse")
            assert later.result(30) == "done"

    def test_a_refusal_does_not_end_jobs_that_run(self, tmp_path: Path, cluster: Cluster) -> None:
        """Not those either that an earlier alflow has submitted, and this one has not got to yet."""
        task, log = Named(tmp_path / "failed" / "abc.0.h5"), tmp_path / "log"
        executor = SlurmExecutor(SECTION, tmp_path)
        executor.submit(leave_line, log, 4, task)
        wait_until(lambda: lines(log) == 1)
        executor.__exit__(KeyboardInterrupt, None, None)
        cluster.set("refuse", "sbatch: error: AssocMaxSubmitJobLimit")
        with SlurmExecutor(SECTION, tmp_path) as executor:
            new, old = executor.submit(leave_line, log), executor.submit(leave_line, log, 4, task)
            wait_until(lambda: cluster.calls()["sbatch"] >= 3)
            cluster.clear("refuse")
            assert new.result(30) == old.result(30) == "done"
        assert lines(log) == 2

    def test_a_job_that_ends_without_a_result_fails_alone(self, tmp_path: Path, cluster: Cluster) -> None:
        cluster.set("state", "NODE_FAIL")
        with SlurmExecutor(SECTION, tmp_path) as executor:
            lost, other = executor.submit(kill_job), executor.submit(leave_line, tmp_path / "log")
            with pytest.raises(WorkerDiedError, match=r"its Slurm job \d+ ended without a result: node fail"):
                lost.result(30)
            assert other.result(30) == "done"

    @pytest.mark.parametrize(
        ("state", "error", "what"),
        [
            ("TIMEOUT", TaskTimeoutError, "wall time used up"),
            ("OUT_OF_MEMORY", WorkerMemoryError, "out of memory"),
            ("", WorkerDiedError, "cancelled, or its node failed"),
        ],
    )
    def test_why_a_job_ended(self, cluster: Cluster, state: str, error: type[Exception], what: str) -> None:
        if state:
            cluster.set("state", state)
        found = module._explained("17", slurm_commands.job_state("17"), cluster.folder)
        assert type(found) is error
        assert str(found) == f"its Slurm job 17 ended without a result: {what}"

    def test_what_a_job_printed_is_told(self, tmp_path: Path, cluster: Cluster) -> None:
        section = SECTION.model_copy(update={"setup": ("echo module: command not found; exit 1",)})
        with SlurmExecutor(section, tmp_path) as executor, pytest.raises(WorkerDiedError, match="module: command not"):
            executor.submit(leave_line, tmp_path / "log").result(30)

    def test_a_queue_that_forgets_a_job_does_not_end_it(self, tmp_path: Path, cluster: Cluster) -> None:
        cluster.set("state", "RUNNING")
        with SlurmExecutor(SECTION, tmp_path) as executor:
            future = executor.submit(leave_line, tmp_path / "log", 4)
            wait_until(lambda: lines(tmp_path / "log") == 1)
            cluster.set("hide")
            assert future.result(30) == "done"
            cluster.clear("hide")

    def test_a_file_system_that_fails_for_a_while_costs_nothing(
        self, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_PATIENCE", 3)
        with SlurmExecutor(SECTION, tmp_path) as executor:
            first = executor.submit(leave_line, tmp_path / "log", 4)
            wait_until(lambda: lines(tmp_path / "log") == 1)
            executor._results.rename(tmp_path / "away")
            time.sleep(1)
            (tmp_path / "away").rename(executor._results)
            assert first.result(30) == "done"
            executor._results.rename(tmp_path / "away")
            second = executor.submit(leave_line, tmp_path / "log")
            with pytest.raises(WorkerStartError, match="No such file or directory: check the file system"):
                second.result(30)
            with pytest.raises(WorkerStartError):
                executor.submit(leave_line, tmp_path / "log").result(30)

    def test_a_failure_that_a_job_reports_while_nobody_waits_is_not_calculated_again(
        self, tmp_path: Path, cluster: Cluster
    ) -> None:
        task, log = Named(tmp_path / "failed" / "abc.0.h5"), tmp_path / "log"
        executor = SlurmExecutor(SECTION.model_copy(update={"timeout": 1.0}), tmp_path)
        executor.submit(leave_line, log, 60, task)
        wait_until(lambda: lines(log) == 1)
        executor.__exit__(KeyboardInterrupt, None, None)
        wait_until(lambda: not cluster.running())
        with SlurmExecutor(SECTION, tmp_path) as executor, pytest.raises(TaskTimeoutError, match="longer than 1 s"):
            executor.submit(leave_line, log, 60, task).result(30)
        assert lines(log) == 1

    def test_jobs_that_are_left_are_told_of(self, tmp_path: Path, cluster: Cluster) -> None:
        """By any name of the directory, and not those of other ones."""
        (tmp_path / "run").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "run")
        executor = SlurmExecutor(SECTION, tmp_path / "run", "-0badcafe")
        executor.submit(leave_line, tmp_path / "log", 30)
        wait_until(lambda: lines(tmp_path / "log") == 1)
        executor.__exit__(KeyboardInterrupt, None, None)
        assert job_name(tmp_path / "link") == job_name(tmp_path / "run")
        check_nothing_runs(SECTION, tmp_path)
        with pytest.raises(ConfigError, match=r"1 jobs of this run are in the queue \(\d+\): finish their batch first"):
            check_nothing_runs(SECTION, tmp_path / "link")

    def test_jobs_of_an_alflow_that_was_left_are_attached_to(self, tmp_path: Path, cluster: Cluster) -> None:
        task, log = Named(tmp_path / "failed" / "abc.0.h5"), tmp_path / "log"
        executor = SlurmExecutor(SECTION, tmp_path)
        executor.submit(leave_line, log, 2, task)
        wait_until(lambda: lines(log) == 1)
        executor.__exit__(KeyboardInterrupt, None, None)
        assert len(cluster.running()) == 1
        with SlurmExecutor(SECTION, tmp_path) as executor:
            assert executor.submit(leave_line, log, 2, task).result(30) == "done"
        assert lines(log) == 1
        assert cluster.calls()["sbatch"] == 1

    def test_killed_before_it_knows_the_number_of_the_job(self, tmp_path: Path, cluster: Cluster) -> None:
        """Slurm has accepted the job, and alflow dies: the job is found by its folder."""
        task, log = Named(tmp_path / "failed" / "abc.0.h5"), tmp_path / "log"
        cluster.set("kill")
        code = (
            "from test_executor import *\n"
            f"task = Named(Path({str(task.failed)!r}))\n"
            f"SlurmExecutor(SECTION, Path({str(tmp_path)!r})).submit(leave_line, Path({str(log)!r}), 3, task).result()"
        )
        ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
        assert ended.returncode == -signal.SIGKILL
        assert len(cluster.running()) == 1
        with SlurmExecutor(SECTION, tmp_path) as executor:
            assert executor.submit(leave_line, log, 9, task).result(30) == "done"
        assert lines(log) == 1
        assert cluster.calls()["sbatch"] == 1

    def test_a_result_of_an_earlier_run_is_not_taken_for_a_new_one(self, tmp_path: Path, cluster: Cluster) -> None:
        task, log = Named(tmp_path / "failed" / "abc.0.h5"), tmp_path / "log"
        executor = SlurmExecutor(SECTION, tmp_path)
        executor.submit(leave_line, log, 1, task)
        wait_until(lambda: lines(log) == 1)
        executor.__exit__(KeyboardInterrupt, None, None)
        wait_until(lambda: not cluster.running())
        with SlurmExecutor(SECTION, tmp_path) as executor, pytest.raises(ValueError, match="does not work"):
            executor.submit(refuse, task).result(30)

    def test_no_more_jobs_than_allowed_and_one_question_for_all(self, tmp_path: Path, cluster: Cluster) -> None:
        futures: list[Future[str]] = []
        sent = []

        def count(_: Future[str]) -> None:
            sent.append(cluster.calls()["sbatch"] - sum(future.done() for future in futures))

        with SlurmExecutor(SECTION.model_copy(update={"max_jobs": 2}), tmp_path) as executor:
            start = time.monotonic()
            futures = [executor.submit(leave_line, tmp_path / "log", 0.2) for _ in range(6)]
            for future in futures:
                future.add_done_callback(count)
            assert [future.result(60) for future in futures] == ["done"] * 6
            asked = cluster.calls()["squeue"]
            assert asked <= 2 + (time.monotonic() - start) / 0.5
        assert max(sent) <= 2
        assert cluster.calls()["sbatch"] == 6

    def test_jobs_that_cannot_be_cancelled_are_named(
        self, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(slurm_commands, "_PATIENCE", 0.5)
        cluster.set("silent")
        with pytest.raises(ConfigError, match=r"squeue: slurm_load_jobs error: Unable .*: see `squeue --name alflow-"):
            slurm_commands.cancel_jobs(job_name(tmp_path))
        SlurmExecutor(SECTION, tmp_path).shutdown()
        assert "Unable to contact slurm controller" in caplog.text, "a warning: nothing is lost"


def test_every_setting_reaches_the_script() -> None:
    section = Slurm(
        kind="slurm", partition="long", account="chem", wall_time=90, ranks=8, threads=2, nodes=2, memory=3.5,
        setup=("module load cp2k",), directives=("--qos=high",),
    )  # fmt: skip
    text = submission_script(section).splitlines()
    asked = {line.removeprefix("#SBATCH --") for line in text if line.startswith("#SBATCH")}
    assert asked == {
        "output=slurm.out", "nodes=2", "ntasks=8", "cpus-per-task=2", "time=90", "partition=long",
        "account=chem", "mem=3584M", "qos=high",
    }  # fmt: skip
    assert text[-1] == "module load cp2k"


def test_a_calculation_ends_before_its_job() -> None:
    assert time_limit(Slurm(kind="slurm")) == 3540
    assert time_limit(Slurm(kind="slurm", timeout=100)) == 100
    assert time_limit(Slurm(kind="slurm", wall_time=1)) == 30


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no program sbatch on PATH"):
        SlurmExecutor(SECTION, tmp_path)


class TestParsl:
    """Pilots in queues that are not there: what is submitted, that it works, and that nothing is left."""

    @pytest.fixture(autouse=True)
    def _needs_parsl(self) -> None:
        pytest.importorskip("parsl")

    ASKED: ClassVar = {
        "kind": "parsl", "loopback": True, "partition": "long", "account": "chem", "wall_time": 90, "ranks": 4,
        "threads": 2, "per_pilot": 2, "memory": 0.5, "setup": ["export SEEN=yes"], "directives": ["-X special"],
    }  # fmt: skip
    SCRIPTS: ClassVar = {
        "pbs": ["#PBS -l walltime=01:30:00", "#PBS -l select=1:ncpus=16:mpiprocs=8:ompthreads=2:mem=512mb",
                "#PBS -X special", "export SEEN=yes"],
        "lsf": ["#BSUB -W 90", "#BSUB -P chem", "#BSUB -q long", "#BSUB -n 16", '#BSUB -R "span[ptile=16]"',
                '#BSUB -R "rusage[mem=512MB]"', "#BSUB -X special", "export SEEN=yes"],
    }  # fmt: skip

    @pytest.mark.slow
    @pytest.mark.parametrize("provider", SCRIPTS)
    def test_pbs_and_lsf(self, tmp_path: Path, cluster: Cluster, provider: str) -> None:
        section = Parsl.model_validate({**self.ASKED, "provider": provider})
        with ParslExecutor(section, tmp_path / "run") as executor:
            futures = [executor.submit(leave_line, tmp_path / "log") for _ in range(3)]
            assert [future.result(60) for future in futures] == ["done"] * 3
            assert len(cluster.running()) == 1
        wait_until(lambda: not cluster.running())
        (script,) = cluster.folder.glob("script.*")
        assert set(self.SCRIPTS[provider]) <= set(script.read_text().splitlines())
        if provider == "pbs":
            assert "qsub -q long -A chem" in (cluster.folder / "calls").read_text()

    @pytest.mark.slow
    @pytest.mark.usefixtures("cluster")
    def test_the_users_own_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "own_parsl.py").write_text(
            "from parsl import Config\nfrom parsl.executors import HighThroughputExecutor\n"
            "from parsl.providers import LocalProvider\n\n\ndef make():\n"
            "    executor = HighThroughputExecutor(address='127.0.0.1', provider=LocalProvider(max_blocks=1))\n"
            f"    return Config(executors=[executor], run_dir={str(tmp_path / 'runs')!r}, initialize_logging=False)\n"
        )
        section = Parsl(kind="parsl", config="own_parsl:make")
        with ParslExecutor(section, tmp_path) as executor:
            assert executor.submit(leave_line, tmp_path / "log").result(60) == "done"
        assert (tmp_path / "runs").is_dir()

    @pytest.mark.slow
    @pytest.mark.usefixtures("cluster")
    def test_pilots_of_an_alflow_that_was_killed_end_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parsl_module, "_HEARTBEAT", (1, 15))
        section, log = Parsl(kind="parsl", provider="local"), tmp_path / "log"
        code = (
            "from test_executor import *\n"
            "parsl_module._HEARTBEAT = (1, 15)\n"
            f"executor = ParslExecutor(Parsl(kind='parsl', provider='local'), Path({str(tmp_path)!r}))\n"
            f"executor.submit(leave_line, Path({str(log)!r}), 60)\n"
            f"wait_until(lambda: lines(Path({str(log)!r})) == 1)\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        killed = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        with ParslExecutor(section, tmp_path) as executor:
            assert executor.submit(pilots, str(tmp_path)).result(60) == 1, "its own only"
        assert not list((tmp_path / "work" / "parsl").glob("*.open"))

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("none:make", r"'none:make': ModuleNotFoundError: .*; expected module:function"),
            ("own_parsl:none", r"AttributeError"),
            ("own_parsl:wrong", r"expected a parsl.Config, found str"),
        ],
    )
    def test_a_configuration_that_is_not_one(self, tmp_path: Path, text: str, what: str) -> None:
        (tmp_path / "own_parsl.py").write_text("def wrong():\n    return 'wrong'\n")
        sys.modules.pop("own_parsl", None)
        with pytest.raises(ConfigError, match=what):
            ParslExecutor(Parsl(kind="parsl", config=text), tmp_path)


class Harmful:
    """Would run a function where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("harm"),)


def test_only_errors_of_alflow_are_taken_from_a_file_that_lay_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "abc.0.result"
    for outcome in ((False, Harmful()), (False, ValueError("x")), (True, "done")):
        path.write_bytes(pickle.dumps(outcome))
        assert module._error_left(path) is None
    assert not (tmp_path / "harm").exists()
    call = tmp_path / "call.pickle"
    call.write_bytes(pickle.dumps((time.sleep, (60,), 1, 0.2, {})))
    subprocess.run([sys.executable, "-m", remote.__name__, call, path], check=True, timeout=60)
    assert isinstance(module._error_left(path), TaskTimeoutError)
