"""What clients speak: their requests into the router's terms, the router's answers into theirs."""
