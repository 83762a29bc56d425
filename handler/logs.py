"""nearvote's log lines: one place that decides where they go."""

import logging
import sys


def log_to_stderr(level: int = logging.INFO) -> None:
    """Bare messages, as request lines are JSON already. Other libraries keep their own settings."""
    logger = logging.getLogger("nearvote")
    logger.setLevel(level)
    logger.propagate = False
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    # Bare messages tell neither thread nor process nor line of code: none is found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # as logging's own documentation has it
