"""Why a machine does not get into a fleet, check by check, and what to do about it."""
