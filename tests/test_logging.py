"""The library logs to its own tree, stays silent by default, and keeps other libraries out."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

from retrieval_grounding.models._quiet import quiet_libraries


def test_an_application_without_logging_hears_nothing():
    program = (
        "import logging, retrieval_grounding\n"
        "logging.getLogger('retrieval_grounding.storage').warning('lost')\n"
        "logging.getLogger('elsewhere').warning('heard')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == "heard\n"


def test_what_a_library_logs_to_the_root_logger_is_dropped_in_its_own_thread_only(caplog):
    inside, logged = threading.Event(), threading.Event()

    def application():
        inside.wait()
        logging.getLogger().error("the application goes on")
        logged.set()

    thread = threading.Thread(target=application)
    thread.start()
    level = logging.getLogger().level
    with quiet_libraries():
        logging.getLogger().error("a library complains")
        assert logging.getLogger().level == level
        inside.set()
        logged.wait()
    thread.join()
    logging.getLogger().error("afterwards")
    assert caplog.messages == ["the application goes on", "afterwards"]
