"""Up to what true load a choice stays good: what the worker is asked to check before it takes the request. Pure.

Router replicas share no memory, and load reports age: what others sent to a worker since, a replica cannot know. So it
chooses by what it knows and says what it took for granted; the worker, which has the truth, refuses when that does not
hold. This is optimistic concurrency, as between the schedulers of Omega (Schwarzkopf et al., "Omega: flexible, scalable
schedulers for large compute clusters", EuroSys 2013). What makes a choice bad is prompts that stand before it unseen,
so the precondition is how many of their tokens may.
"""

import math

SLACK_SHARE = 0.5
"""Of the time that is left until the TTFT target, so much may go to prompts that were not seen: the rest is for what
the prediction leaves out."""

LEAST_S = 0.1
"""So much more than expected may always stand there: a conflict that saves less is not worth its round trip."""


def max_queued_prefill_tokens(*, wait_s: float, slack_s: float, margin_s: float, token_s: float) -> int:
    """Prompt tokens that may wait for prefill where the choice fell; 0: any number.

    ``wait_s``: what was expected; ``slack_s``: from the expected first token to its target, infinite without one;
    ``margin_s``: what the runner-up costs more, infinite without one; ``token_s``: seconds to prefill a token there.

    Expected to wait 0.2 s at 1 ms a token, with 1 s to spare: half of the second may go to prompts that were not seen.

    >>> max_queued_prefill_tokens(wait_s=0.2, slack_s=1.0, margin_s=5.0, token_s=0.001)
    700
    """
    more_s = max(min(SLACK_SHARE * slack_s, margin_s), LEAST_S)
    if math.isinf(more_s) or token_s <= 0.0:
        return 0
    return int((wait_s + more_s) / token_s) + 1
