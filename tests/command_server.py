"""Runs alflow's commands in forks of a process that has imported it: a process of its own each, in a third of the time.

Each line of standard input is a request, in JSON: arguments, folder, environment, and files for what is printed; the
exit status of the command is the line that answers it.
"""

import importlib
import json
import os
import sys

IMPORTED = ["loop", "steps.produce", "steps.check", "steps.fit_file", "report.status", "report.inspection",
            "report.exports", "models.ace.model"]  # fmt: skip


def become(arguments: list[str], folder: str, environment: dict[str, str], output: str, errors: str) -> None:
    """Turn a fork into what a shell would have started."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for path, descriptor in ((os.devnull, 0), (output, 1), (errors, 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["alflow", *arguments]


def serve() -> None:
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for name in IMPORTED:
        importlib.import_module(f"alflow.{name}")
    from alflow.cli import main

    for line in requests:
        child = os.fork()
        if not child:
            requests.close()
            answers.close()
            become(**json.loads(line))
            main()
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    serve()
