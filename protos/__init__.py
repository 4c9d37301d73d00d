"""The contract between router and workers, and all they share."""
