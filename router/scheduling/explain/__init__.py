"""Why a request went where it went: decision records, their replay, and the logs that keep both."""
