"""Large bodies in turns: whoever comes first goes first, and so much in one turn of the event loop."""

import asyncio

from router.http.server.pace import Pace


async def test_what_does_not_fit_a_turn_waits_for_the_next_in_order() -> None:
    """A piece may pass the bound; those behind it then wait."""
    pace, done = Pace(turn_bytes=100, turn_s=0.01), []

    async def take(number: int, count: int) -> None:
        await pace.took(count)
        done.append(number)

    tasks = [asyncio.create_task(take(number, 60)) for number in range(6)]
    await asyncio.sleep(0)
    assert done == [0, 1]
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [0, 1, 3, 4, 5]


async def test_nothing_goes_on_when_nobody_sends() -> None:
    """Its timer ends by itself."""
    pace = Pace(turn_bytes=100, turn_s=0.001)
    await pace.took(500)
    while pace._timer is not None:
        await asyncio.sleep(0.001)
    await pace.took(1)
    assert pace._timer is not None
