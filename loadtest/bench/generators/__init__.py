"""Two load generators on one endpoint, to see whether they tell the same."""
