"""Workers that crash, hang, are killed, or lose their driver."""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from alflow.executors import LocalExecutor, TaskTimeoutError, WorkerDiedError, open_executor, run_all


def double(x: int) -> int:
    return 2 * x


def misbehave(how: str, note: str = "") -> str:
    if how == "raise":
        raise ValueError(note)
    if how == "crash":
        ctypes.string_at(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        child = subprocess.Popen(["sleep", "300"])
        Path(note).write_text(str(child.pid))
        time.sleep(300)
    if how == "lambda":
        return lambda: None  # type: ignore[return-value]
    return how


def threads() -> tuple[str | None, list[int]]:
    import numpy as np
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    return os.environ.get("OMP_NUM_THREADS"), [pool["num_threads"] for pool in threadpool_info()]


def pool(*, timeout: float | None = None):
    return open_executor(2, timeout=timeout)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_results_come_back_with_their_number() -> None:
    assert sorted(run_all(pool, double, [(k,) for k in range(7)])) == [(k, 2 * k) for k in range(7)]
    assert list(run_all(pool, double, [])) == []


def test_a_task_fails_alone() -> None:
    tasks = [("fine",), ("crash",), ("raise", "no"), ("kill",), ("well",), ("lambda",), ("good",)]
    found = dict(run_all(pool, misbehave, tasks))
    assert [found[k] for k in (0, 4, 6)] == ["fine", "well", "good"]
    assert isinstance(found[1], WorkerDiedError)
    assert "SIGSEGV" in str(found[1])
    assert isinstance(found[2], ValueError)
    assert "SIGKILL" in str(found[3])
    assert "cannot be sent back" in str(found[5])


def test_timeout_kills_the_task_and_what_it_started(tmp_path: Path) -> None:
    tasks = [("hang", str(tmp_path / "child")), ("fine",), ("well",)]
    start = time.monotonic()
    found = dict(run_all(pool, misbehave, tasks, timeout=3))
    assert time.monotonic() - start < 10
    assert isinstance(found[0], TaskTimeoutError)
    assert (found[1], found[2]) == ("fine", "well")
    time.sleep(0.2)
    assert not alive(int((tmp_path / "child").read_text()))


def test_threads_are_limited() -> None:
    with open_executor(1, threads=1) as executor:
        variable, pools = executor.submit(threads).result()
    assert variable == "1"
    assert set(pools) == {1}


def test_leaving_early_stops_everything(tmp_path: Path) -> None:
    def consume() -> None:
        for _ in run_all(pool, misbehave, [("hang", str(tmp_path / "child")), ("fine",)]):
            while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
                time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    time.sleep(0.5)
    assert not alive(int((tmp_path / "child").read_text()))


@pytest.mark.parametrize("busy", [True, False])
def test_workers_end_with_their_driver(tmp_path: Path, busy: bool) -> None:
    script = tmp_path / "driver.py"
    work = 'executor.submit(misbehave, "hang", sys.argv[1]).result()' if busy else "time.sleep(300)"
    script.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_local import misbehave, open_executor\n"
        "if __name__ == '__main__':\n"
        "    with open_executor(1) as executor:\n"
        "        import os; from pathlib import Path\n"
        "        print(executor.submit(os.getpid).result(), flush=True)\n"
        f"        {work}\n"
    )
    child = tmp_path / "child"
    driver = subprocess.Popen([sys.executable, script, child], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    worker = int(driver.stdout.readline())
    while busy and not (child.exists() and child.read_text()):
        time.sleep(0.05)
    driver.kill()
    driver.communicate()
    end = time.monotonic() + 5
    pids = [worker, *([int(child.read_text())] if busy else [])]
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, pids))


class Unsendable:
    def __reduce__(self) -> str:
        raise OSError("no")


def test_what_cannot_be_sent_fails_alone() -> None:
    """A task that cannot be pickled, then a good one, on the same worker."""
    with open_executor(1) as executor:
        futures = [executor.submit(double, *args) for args in ((1,), (lambda: 0,), (Unsendable(),), (2,))]
        assert futures[0].result(60) == 2
        assert futures[3].result(60) == 4
        assert isinstance(futures[1].exception(), AttributeError | pickle.PicklingError)
        assert isinstance(futures[2].exception(), OSError)


def test_a_script_without_a_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "from operator import neg\nfrom alflow.executors import open_executor, run_all\n"
        "pool = lambda timeout=None: open_executor(1)\n"
        "print(list(run_all(pool, neg, [(1,), (2,)])))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("alflow.executors.local.WorkerStartError: ")
    assert "if __name__ == '__main__':" in done.stderr.strip().splitlines()[-1]


def test_ctrl_c_reaches_the_driver_only(tmp_path: Path) -> None:
    """SIGINT to the whole process group, while workers start: none of them prints a traceback."""
    script = tmp_path / "driver.py"
    script.write_text(
        "import signal, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_local import misbehave, pool, run_all\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    print('go', flush=True)\n"
        "    list(run_all(pool, misbehave, [('hang', sys.argv[1])] * 2))\n"
    )
    for delay in (0.02, 0.1, 0.3, 1.0):
        driver = subprocess.Popen(
            [sys.executable, script, tmp_path / "child"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        assert driver.stdout is not None
        driver.stdout.readline()
        time.sleep(delay)
        os.killpg(driver.pid, signal.SIGINT)
        error = driver.communicate(timeout=30)[1]
        assert driver.returncode == -signal.SIGINT
        assert '"<string>"' not in error, error  # the command line of a worker


def cores_and_environment() -> tuple[set[int], str | None]:
    time.sleep(0.3)  # so that every worker gets some
    return os.sched_getaffinity(0), os.environ.get("ALFLOW_TEST")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_pinned_workers_have_cores_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of another executor at the same time: it gets none, and runs anywhere."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    n = len(os.sched_getaffinity(0))
    with LocalExecutor(n, 1, pin=True, environment={"ALFLOW_TEST": "seen"}) as first:
        found = [future.result(60) for future in [first.submit(cores_and_environment) for _ in range(4 * n)]]
        with LocalExecutor(1, 1, pin=True) as second:
            assert second.submit(cores_and_environment).result(60) == (os.sched_getaffinity(0), None)
    cores = {frozenset(affinity) for affinity, _ in found}
    assert all(len(one) == 1 for one in cores)
    assert len(cores) == n
    assert {value for _, value in found} == {"seen"}
    with LocalExecutor(1, n, pin=True) as third:
        assert len(third.submit(cores_and_environment).result(60)[0]) == n, "locks end with their processes"


def start_elsewhere(note: str) -> None:
    """Start a process in a session of its own, as mpirun does with what it starts, and wait."""
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    Path(note).write_text(str(child.pid))
    time.sleep(300)


def is_gone(pid: int) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_a_timeout_ends_what_is_in_other_process_groups_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with LocalExecutor(1, timeout=2) as executor:
        assert isinstance(executor.submit(start_elsewhere, str(note)).exception(60), TaskTimeoutError)
    assert is_gone(int(note.read_text()))
