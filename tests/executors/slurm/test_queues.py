"""Reference calculations as jobs of a real Slurm, and in pilot jobs of Parsl in it; killed in every way."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import ase.io
import numpy as np
import psutil
import pytest
from alflow.executors.settings import Slurm
from alflow.executors.slurm import SlurmExecutor, job_name
from alflow.executors.slurm_commands import queued_jobs
from alflow.models.fitting import fit
from alflow.records.label import LabelRecord
from alflow.state.file import read_file
from ase.build import bulk

HERE = Path(__file__).parent
SETTINGS = """
seed = 3
[[system]]
name = "copper"
structures = "copper.xyz"
copies = {copies}
start = []
[potential]
n_members = 8
n_max = 4
l_max = 2
n_features = 60
cutoff = 4.0
[reference]
kind = "command"
command = "{python} {slow} {seconds} {{input}} {{output}}"
[executor]
{executor}
"""
KINDS = {
    "slurm": 'kind = "slurm"\nwall_time = 3\nmemory = 0.5\nenvironment = {ALFLOW_SEEN = "1"}',
    "parsl": 'kind = "parsl"\nloopback = true\nwall_time = 5\nmemory = 1\nper_pilot = 2',
}
COMMAND = "{python} pair_trainer.py {train} {validation} {output} {seed} --sleep {sleep}"
TRAINED = f"""
[potential]
kind = "trained"
n_members = 4
command = "{COMMAND}"
calculator = "pair_trainer.Pairs"
parameters = {{{{ model = "{{{{model}}}}" }}}}
{{executor}}
""".replace("{{", "{").replace("}}", "}")
WHY_NOT = next(
    (
        reason
        for reason, missing in (
            ("a Slurm can only be started by root", os.geteuid() != 0),
            *((f"{name} is not installed", shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None)
              for name in ("slurmctld", "slurmd", "munged", "sbatch")),
        )
        if missing
    ),
    "",
)  # fmt: skip
real = [pytest.mark.slow, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """Environment in which a real Slurm answers: one for each process of pytest."""
    port = 17017 + 10 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    home = Path(tempfile.mkdtemp(prefix="alflow-slurm-"))  # munged wants folders that everybody may enter
    home.chmod(0o755)
    environment = {**os.environ, "SLURM_HOME": str(home), "SLURM_PORT": str(port), "OMP_NUM_THREADS": "1"}
    script = str(HERE / "slurm.sh")
    started = subprocess.run([script, "up"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert started.returncode == 0, started.stderr
    yield {**environment, "SLURM_CONF": str(home / "slurm.conf")}
    subprocess.run([script, "down"], env=environment, check=True, timeout=60)
    shutil.rmtree(home)


class Run:
    """A run directory, and the alflow that works in it."""

    def __init__(self, folder: Path, environment: dict[str, str], executor: str, seconds: float, copies: int) -> None:
        self.folder, self.log = folder, folder / "log"
        self.environment = {**environment, "SLOW_LOG": str(self.log)}
        folder.mkdir()
        ase.io.write(folder / "copper.xyz", bulk("Cu", cubic=True))
        text = SETTINGS.format(
            copies=copies,
            python=sys.executable,
            slow=HERE / "slow.py",
            log=self.log,
            seconds=seconds,
            executor=executor,
        )
        (folder / "alflow.toml").write_text(text)
        self.name = job_name(folder)
        self.output = ""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        # A shell that starts the tests in the background makes them ignore SIGINT, and so their children: undo that.
        code = "import signal; signal.signal(2, signal.default_int_handler); from alflow.cli import main; main()"
        command = [sys.executable, "-c", code, *(arguments or ("label",)), str(self.folder)]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self, process: subprocess.Popen[str], timeout: float = 150) -> None:
        self.output, _ = process.communicate(timeout=timeout)
        assert process.returncode == 0, self.output

    def began(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def done(self) -> list[str]:
        """Of the labels that are there, the names in the log, as slow.py makes them."""
        paths = (self.folder / "labels").glob("[!.]*.h5")
        return [f"{read_file(path, LabelRecord).frames[0].positions[0, 0]:.8f}" for path in paths]

    def calculations(self) -> list[psutil.Process]:
        """Those that run, the oldest first."""
        found = [
            process
            for process in psutil.process_iter(["cmdline", "environ", "create_time"])
            if "slow.py" in " ".join(process.info["cmdline"] or [])
            and (process.info["environ"] or {}).get("SLOW_LOG") == str(self.log)
        ]
        return sorted(found, key=lambda process: process.info["create_time"])

    def jobs(self) -> list[str]:
        command = ["squeue", "--noheader", "--format=%A %T", f"--name={self.name}"]
        text = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout
        return [line.split()[0] for line in text.splitlines() if "COMPLETING" not in line]

    def wait(self, condition: Callable[[], bool], timeout: float = 60) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"{self.began()}, {self.jobs()}"
            time.sleep(0.1)

    def record(self) -> LabelRecord:
        return read_file(self.folder / "cycles/000/label.h5", LabelRecord)


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "parsl":
        pytest.importorskip("parsl")
    return request.param


def check_all_there(run: Run, n: int) -> LabelRecord:
    record = run.record()
    assert len(record.ids) == n, run.output
    assert record.gave_up == ()
    assert len(set(run.began())) == n
    run.wait(lambda: not run.jobs(), 20)
    return record


class TestReal:
    pytestmark = real

    def test_iterate_has_its_labels_from_jobs(self, tmp_path: Path, slurm: dict[str, str], kind: str) -> None:
        """Seen in the queue, each once, and to the last digit what this machine gives by itself."""
        run = Run(tmp_path / "run", slurm, KINDS[kind], seconds=0.5, copies=8)
        process = run.start("iterate", "--cycles", "0")
        run.wait(lambda: bool(run.jobs()))
        run.finish(process)
        record = check_all_there(run, 9)
        assert max(Counter(run.began()).values()) == 1
        assert (run.folder / "cycles/000/assess.h5").exists()
        local = Run(tmp_path / "local", slurm, "workers = 2", seconds=0, copies=8)
        local.folder.joinpath("alflow.toml").write_text(
            (run.folder / "alflow.toml").read_text().split("[executor]")[0].replace(" 0.5 ", " 0 ")
        )
        local.finish(local.start("label"))
        same = {frame.positions.tobytes(): frame for frame in local.record().frames}
        for frame in record.frames:
            other = same[frame.positions.tobytes()]
            np.testing.assert_array_equal(frame.get_forces(), other.get_forces())
            assert frame.get_potential_energy() == other.get_potential_energy()

    def test_members_are_trained_by_jobs_of_their_own(self, tmp_path: Path, slurm: dict[str, str], kind: str) -> None:
        """With resources of their own, alflow killed meanwhile: the members are those that this machine trains."""
        run = Run(tmp_path / "run", {**slurm, "LOG": str(tmp_path / "trainings")}, KINDS[kind], seconds=0, copies=11)
        shutil.copy(HERE.parents[1] / "pair_trainer.py", run.folder)
        settings = (run.folder / "alflow.toml").read_text()
        head, _, rest = settings.partition("[potential]")
        sleeping = TRAINED.replace("{sleep}", "2").replace("{executor}", "executor = {wall_time = 4}")
        (run.folder / "alflow.toml").write_text(f"{head}{sleeping}[reference]{rest.partition('[reference]')[2]}")
        trainings = tmp_path / "trainings"
        process = run.start("iterate", "--cycles", "0")
        run.wait(lambda: trainings.exists() and len(trainings.read_text().splitlines()) >= 2, 90)
        process.kill()
        process.wait()
        process.stdout.close()
        run.finish(run.start("resume"))
        logs = [path.read_text() for path in (run.folder / "models").glob("*/training.log")]
        assert len(logs) == 4
        assert all("in job" in log for log in logs)
        began = Counter(trainings.read_text().splitlines())
        assert len(began) == 4
        assert max(began.values()) <= (1 if kind == "slurm" else 2), "a job that went on is attached to"
        here = fit(
            list(run.record().frames), kind="trained", seed=3, n_members=4, workers=2,
            directory=run.folder, models=tmp_path / "here", command=COMMAND.replace("{sleep}", "2"),
            calculator="pair_trainer.Pairs", parameters={"model": "{model}"},
        )  # fmt: skip
        for name in here.model.names:
            a, b = (folder / name / "model" for folder in (run.folder / "models", tmp_path / "here"))
            assert a.read_bytes() == b.read_bytes()

    def test_a_cancelled_job_is_a_recorded_failure_and_is_tried_again(
        self, tmp_path: Path, slurm: dict[str, str], kind: str
    ) -> None:
        run = Run(tmp_path / "run", slurm, KINDS[kind], seconds=4, copies=3)
        process = run.start()
        run.wait(lambda: len(run.began()) >= 1)
        subprocess.run(["scancel", *run.jobs()[:1]], env=slurm, check=True)
        run.finish(process)
        record = check_all_there(run, 4)
        assert set(record.failed_reason) == {"crashed"}
        assert any("job" in detail for detail in record.failed_detail)

    def test_a_killed_worker_fails_its_own_calculation_only(
        self, tmp_path: Path, slurm: dict[str, str], kind: str
    ) -> None:
        run = Run(tmp_path / "run", slurm, KINDS[kind], seconds=3, copies=3)
        process = run.start()
        run.wait(lambda: len(run.began()) >= 2)  # so that the oldest, which is killed, has begun
        run.calculations()[0].parent().kill()
        run.finish(process)
        record = check_all_there(run, 4)
        assert record.failed_reason == ("crashed",)
        assert "ended by signal SIGKILL" in record.failed_detail[0]
        assert len(run.began()) == 5

    def test_kill_9_of_alflow_and_resume(self, tmp_path: Path, slurm: dict[str, str], kind: str) -> None:
        """Jobs of Slurm are attached to: nothing begins twice. Of pilots only what had not ended begins again."""
        run = Run(tmp_path / "run", slurm, KINDS[kind], seconds=3, copies=5)
        process = run.start()
        run.wait(lambda: len(run.done()) >= 1)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children or kind == "slurm"
        process.kill()
        process.wait()
        process.stdout.close()
        done = run.done()
        assert run.jobs(), "in mid-batch"
        psutil.wait_procs(children, timeout=60)
        assert not any(child.is_running() for child in children)
        if kind == "parsl":
            run.wait(lambda: not run.calculations())  # the pilot ends what it has; nobody gives it more
        n_done, began = len(run.done()), len(run.began())
        run.finish(run.start())
        record = check_all_there(run, 6)
        assert record.failed_ids == ()
        times = Counter(run.began())
        assert max(times.values()) <= (1 if kind == "slurm" else 2)
        assert all(times[name] == 1 for name in done)
        assert len(run.began()) <= 6 + began - n_done

    def test_ctrl_c(self, tmp_path: Path, slurm: dict[str, str], kind: str) -> None:
        """Jobs of Slurm go on, pilots end; the next command finishes either."""
        run = Run(tmp_path / "run", slurm, KINDS[kind], seconds=3, copies=2)
        process = run.start()
        run.wait(lambda: len(run.began()) >= 1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "interrupted: what was finished is kept" in output
        if kind == "parsl":
            run.wait(lambda: not run.jobs(), 10)
        else:
            assert run.jobs()
        run.finish(run.start())
        check_all_there(run, 3)
        if kind == "slurm":
            assert max(Counter(run.began()).values()) == 1

    def test_a_queue_that_refuses_is_told_in_one_line(self, tmp_path: Path, slurm: dict[str, str]) -> None:
        run = Run(tmp_path / "run", slurm, KINDS["slurm"] + '\npartition = "nowhere"', seconds=0, copies=3)
        process = run.start()
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "no job could be submitted: sbatch: error: invalid partition specified: nowhere" in output
        assert not list((run.folder / "failed").glob("*.h5"))
        check = run.start("check")
        output, _ = check.communicate(timeout=60)
        assert check.returncode == 1
        assert "invalid partition" in output

    def test_killed_when_slurm_has_accepted_a_job_that_alflow_does_not_know_of(
        self, tmp_path: Path, slurm: dict[str, str]
    ) -> None:
        run = Run(tmp_path / "run", slurm, KINDS["slurm"], seconds=6, copies=1)
        deadly = tmp_path / "bin"
        deadly.mkdir()
        wrapper = deadly / "sbatch"
        wrapper.write_text(f'#!/bin/bash\n{shutil.which("sbatch")} "$@"\nkill -9 $PPID\n')
        wrapper.chmod(0o755)
        run.environment["PATH"] = f"{deadly}:{slurm['PATH']}"
        process = run.start()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert len(run.jobs()) == 1
        run.environment["PATH"] = slurm["PATH"]
        run.finish(run.start())
        assert check_all_there(run, 2).failed_ids == ()
        assert max(Counter(run.began()).values()) == 1

    def test_a_batch_that_is_given_up_at_a_resume_leaves_no_job(self, tmp_path: Path, slurm: dict[str, str]) -> None:
        """Two of three have failed while alflow was dead, the third is in the queue. A retry before that is refused."""
        text = f"{KINDS['slurm']}\n[failures]\ncrashed = 'give up'"
        run = Run(tmp_path / "run", slurm, text, seconds=5, copies=2)
        Path(f"{run.log}.fail").touch()
        process = run.start()
        run.wait(lambda: len(run.jobs()) == 3)
        subprocess.run(["scontrol", "hold", max(run.jobs(), key=int)], env=slurm, check=True)
        run.wait(lambda: len(run.began()) == 2)
        process.kill()
        process.communicate()
        run.wait(lambda: len(list((run.folder / "failed").glob("*.h5"))) == 2 and len(run.jobs()) == 1)
        refused = run.start("label", "--retry", "failed")
        output, _ = refused.communicate(timeout=60)
        assert refused.returncode == 2
        assert "1 jobs of this run are in the queue" in output
        again = run.start()
        output, _ = again.communicate(timeout=60)
        assert "2 of 3 reference calculations failed (2 crashed)" in output
        assert not run.jobs()

    def test_failed_while_alflow_was_dead_and_tried_again_later(self, tmp_path: Path, slurm: dict[str, str]) -> None:
        run = Run(tmp_path / "run", slurm, KINDS["slurm"], seconds=1, copies=2)
        fail = Path(f"{run.log}.fail")
        fail.touch()
        process = run.start()
        run.wait(lambda: len(run.jobs()) == 3)
        process.kill()
        process.communicate()
        run.wait(lambda: not run.jobs())
        again = run.start()
        output, _ = again.communicate(timeout=120)
        assert again.returncode == 1
        assert "of 3 reference calculations failed (" in output
        fail.unlink()
        run.finish(run.start("label", "--retry", "failed"))
        run.finish(run.start())
        check_all_there(run, 3)

    def test_a_retry_in_other_pilots_leaves_the_first_alone(self, tmp_path: Path, slurm: dict[str, str]) -> None:
        pytest.importorskip("parsl")
        executor = (
            KINDS["parsl"].replace("per_pilot = 2", "per_pilot = 1\ntimeout = 4").replace("memory = 1", "memory = 0.4")
        )
        changed = "[failures]\ntimed_out = [{executor = {timeout = 60}}]"
        run = Run(tmp_path / "run", slurm, f"{executor}\n{changed}", seconds=5, copies=2)
        run.finish(run.start())
        record = check_all_there(run, 3)
        assert record.failed_reason == ("timed_out",) * 3

    def test_500_jobs_in_the_queue_and_none_left(
        self, tmp_path: Path, slurm: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
        section = Slurm.model_validate({"kind": "slurm", "max_jobs": 1000, "memory": 0.5, "setup": ["sleep 600"]})
        name = job_name(tmp_path)
        executor = SlurmExecutor(section, tmp_path)
        futures = [executor.submit(len, ()) for _ in range(500)]
        end = time.monotonic() + 120
        while len(queued_jobs(name)) < 500:
            assert time.monotonic() < end
            time.sleep(0.5)
        assert not any(future.done() for future in futures)
        executor.shutdown(cancel_futures=True)
        assert queued_jobs(name) == {}

    @pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is not installed")
    def test_a_job_has_room_for_its_ranks(self, tmp_path: Path, slurm: dict[str, str], kind: str) -> None:
        executor = KINDS[kind].replace("per_pilot = 2", "per_pilot = 1") + "\nranks = 2"
        run = Run(tmp_path / "run", slurm, executor, seconds=0, copies=0)
        ranks = Path(f"{run.log}.ranks")
        ranks.touch()
        run.finish(run.start())
        check_all_there(run, 1)
        assert ranks.read_text().split() == ["rank", "rank"]
