"""Values every other room of the router speaks in: requests, workers, snapshots, placements, streams.

Frozen dataclasses with units in their names; no I/O, no protobuf, no asyncio. Imports nothing but itself.
"""
