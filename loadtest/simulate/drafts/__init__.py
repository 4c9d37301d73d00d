"""Whether a draft tier pays for a fleet, and where it should stand."""
