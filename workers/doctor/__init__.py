"""Why a machine does not get into a pool, check by check, and what to do about it."""
