"""The locust user that others derive from: say what sessions look like, and everything else is done."""

import random
from collections.abc import Callable, Iterator
from typing import ClassVar

from locust import User, constant, task

from loadtest.locust.workloads.sessions import Session, Sizes


class OpenAIUser(User):  # type: ignore[misc]
    """Streams through OpenAI's API. ``sessions`` of a class of your own are sent instead of ``--workload``'s.

    ``loadtest/locust/README.md`` has an example: a page of code.
    """

    abstract = True
    wait_time = constant(1)
    sessions: ClassVar[Callable[[random.Random, Sizes], Iterator[Session]] | None] = None

    @task  # type: ignore[untyped-decorator]
    def live(self) -> None:
        """Play this process's share; in an open loop the first user plays the schedule, others rest."""
        self.environment.load_test.conductor().run(type(self).sessions)
