"""The figures of each candidate, as columns of one table: seconds, tokens and counts; the names carry the unit.

``data[column, i]`` is one figure of candidate ``i``. A *block* is columns that stand together because they are written
or read together: ``data[block.at]`` is a view of them. Nothing but the blocks goes by the order of the columns.
"""

from enum import IntEnum, auto


class Column(IntEnum):
    """One figure. Decision records name it in lower case."""

    @staticmethod
    def _generate_next_value_(_name: str, _start: int, count: int, _values: list[int]) -> int:
        return count

    # The speed model. Where a decode curve was measured: its piece at the batch that is there; where a prefill curve
    # was: what holds beyond its last point.
    BASE_S = auto()  # one decode step, whatever its batch
    PER_SEQUENCE_S = auto()  # ... and for each sequence in it
    PER_CONTEXT_TOKEN_S = auto()  # ... and for each context token those hold
    PREFILL_TOKEN_S = auto()  # to prefill one token
    PREFILL_BASE_S = auto()  # a prefill costs whatever its length
    # What is loaded.
    SLOTS = auto()
    CONTEXT_LIMIT = auto()  # longest prompt plus output, tokens: the model's, or what its KV cache holds
    KV_CAPACITY = auto()  # tokens; infinite when not known
    QUALITY_LOSS = auto()  # relative perplexity loss, 0.01 is 1%
    # The worker's last report, and what this router thinks of it.
    RTT_S = auto()
    PRICE_S = auto()  # what its owner asks: on battery, say
    SUSPENDED_UNTIL = auto()  # monotonic
    OBSERVED_AT = auto()  # monotonic, of the load
    RUNNING = auto()
    WAITING = auto()
    KV_USED = auto()
    KV_FREE = auto()  # tokens; infinite when nothing is held
    # Its load, by the report.
    IN_ENGINE = auto()  # running and waiting
    CONTEXT_HELD = auto()
    EXPECTED_REMAINING = auto()
    PREFILL_PENDING = auto()
    # The same, dispatched from here and not in the report yet.
    INFLIGHT_REQUESTS = auto()
    INFLIGHT_CONTEXT = auto()
    INFLIGHT_OUTPUT = auto()
    INFLIGHT_PREFILL = auto()
    # Of this router, and of this request.
    OUTSTANDING = auto()  # dispatched from here and not finished, whatever the load says
    CACHED_TOKENS = auto()  # of this request's prompt
    PREFILL_SHARE = auto()  # of the last seconds that the worker spent prefilling: decode steps are longer by it
    # Requests from here that run there with a TPOT target still to keep, and how far they are ahead of it, on the mean,
    # when the load was observed: those with hardly a lead, and the others.
    LOW_SLACK = auto()
    HIGH_SLACK = auto()
    LOW_SLACK_LEAD_S = auto()
    HIGH_SLACK_LEAD_S = auto()


COLUMNS = len(Column)


class Block:
    """Columns that stand together in the table. Raises ValueError where they do not."""

    __slots__ = ("at", "columns")

    def __init__(self, *columns: Column) -> None:
        if list(columns) != list(Column)[columns[0] : columns[-1] + 1]:
            raise ValueError(
                f"columns of a block stand together and in its order: {', '.join(one.name for one in columns)}"
            )
        self.columns = columns
        self.at = slice(int(columns[0]), int(columns[-1]) + 1)

    def __add__(self, other: "Block") -> "Block":
        return Block(*self.columns, *other.columns)


SPEED = Block(
    Column.BASE_S, Column.PER_SEQUENCE_S, Column.PER_CONTEXT_TOKEN_S, Column.PREFILL_TOKEN_S, Column.PREFILL_BASE_S
)
DECODE = Block(Column.BASE_S, Column.PER_SEQUENCE_S, Column.PER_CONTEXT_TOKEN_S)
"""Part of SPEED."""

LOADED = Block(Column.SLOTS, Column.CONTEXT_LIMIT, Column.KV_CAPACITY, Column.QUALITY_LOSS)

REPORT = Block(
    Column.RTT_S,
    Column.PRICE_S,
    Column.SUSPENDED_UNTIL,
    Column.OBSERVED_AT,
    Column.RUNNING,
    Column.WAITING,
    Column.KV_USED,
    Column.KV_FREE,
)

LOAD, CLAIMS = (
    Block(*columns)
    for columns in zip(
        (Column.IN_ENGINE, Column.INFLIGHT_REQUESTS),
        (Column.CONTEXT_HELD, Column.INFLIGHT_CONTEXT),
        (Column.EXPECTED_REMAINING, Column.INFLIGHT_OUTPUT),
        (Column.PREFILL_PENDING, Column.INFLIGHT_PREFILL),
        strict=True,
    )
)
"""Each figure of the load stands where its claims stand, so that the two may be added."""

VIEW = REPORT + LOAD + CLAIMS
"""Written with every change of a worker's view."""

OWN = Block(Column.OUTSTANDING, Column.CACHED_TOKENS)

PREFILL = Block(Column.PREFILL_SHARE)

SLACK_COUNTS, SLACK_LEADS = (
    Block(*columns)
    for columns in zip(
        (Column.LOW_SLACK, Column.LOW_SLACK_LEAD_S), (Column.HIGH_SLACK, Column.HIGH_SLACK_LEAD_S), strict=True
    )
)
"""How many, and their mean lead."""

SLACK = SLACK_COUNTS + SLACK_LEADS

PROGRESS = PREFILL + SLACK
"""Written with every load report."""

BLOCKS = (SPEED, LOADED, REPORT, LOAD, CLAIMS, OWN, PREFILL, SLACK_COUNTS, SLACK_LEADS)
"""Together the whole table."""
