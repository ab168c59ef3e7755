"""Why a calculation failed: one word of the taxonomy, and the details."""

import traceback
from pathlib import Path

from alflow.errors import AlflowError, LabelError
from alflow.executors import TaskTimeoutError, WorkerMemoryError
from alflow.workers.programs import end_of_logs, reason_of

_TAIL = 20  # lines of a traceback that are kept


def reason_and_detail(error: Exception, folder: Path) -> tuple[str, str]:
    """One word of the taxonomy for an exception, and what is told of it, with the end of the newest log in a folder."""
    if isinstance(error, LabelError):
        return error.reason, error.detail
    if isinstance(error, TaskTimeoutError):
        reason, detail = "timed_out", str(error)
    elif isinstance(error, WorkerMemoryError):
        reason, detail = "out_of_memory", str(error)
    elif isinstance(error, AlflowError):
        reason, detail = "crashed", str(error)
    else:
        reason = reason_of(error, "")
        detail = "".join(traceback.format_exception(error)[-_TAIL:])
    log = end_of_logs(folder)
    return reason, f"{detail}\n{log}" if log else detail
