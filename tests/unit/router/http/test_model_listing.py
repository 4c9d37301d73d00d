"""The list of models: of few at once, of many beside the event loop, and the same."""

import threading

from router.http.dialects.shared.catalogue import FEW, Listing, ModelFacts, catalogue
from tests.support import fleets


async def test_a_long_list_is_made_beside_the_event_loop() -> None:
    """A pool that knew 2,000 names held everybody's tokens for a tenth of a second with each GET /v1/models."""
    loop_thread = threading.get_ident()

    def make(found: dict[str, ModelFacts]) -> tuple[dict[str, ModelFacts], bool]:
        return found, threading.get_ident() == loop_thread

    listing = Listing()
    for count, on_the_loop in ((FEW - 1, True), (FEW, False)):
        known = [f"m{number}" for number in range(count)]
        fleet = fleets.snapshot(fleets.worker("a", fleets.instance()))  # one more
        assert await listing.of(fleet, known, make) == (catalogue(fleet, known), on_the_loop)
