"""The file locust runs: ``locust -f loadtest/locust/locustfile.py --host http://127.0.0.1:8000 --headless``.

It asks nothing of the server but OpenAI's API. What a server says beyond (who answered, cached tokens) is kept as well.
"""

import locust.stats
from locust import LoadTestShape, events

from loadtest.locust.load_test import LoadTest
from loadtest.locust.options import add_arguments
from loadtest.locust.user import OpenAIUser

locust.stats.CONSOLE_STATS_INTERVAL_SEC = 10


@events.init_command_line_parser.add_listener
def _parser(parser, **_):  # type: ignore[no-untyped-def]
    add_arguments(parser)


@events.init.add_listener
def _init(environment, **_):  # type: ignore[no-untyped-def]
    environment.load_test = LoadTest(environment)


class Person(OpenAIUser):
    """Whoever ``--workload`` describes."""


class UntilDone(LoadTestShape):  # type: ignore[misc]
    """As many users as the run wants, until its last answer."""

    def reset_time(self) -> None:
        """Locust is about to start a run."""
        super().reset_time()
        if self.runner is not None:
            self.runner.environment.load_test.arm()

    def tick(self) -> tuple[int, float] | None:
        """Asked once a second by locust, in the process that reports."""
        users = self.runner.environment.load_test.users()
        return None if users is None else (users, 100.0)
