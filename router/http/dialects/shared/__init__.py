"""What every dialect needs: a client's wish in no dialect's terms, and how it becomes requests of the router's own."""
