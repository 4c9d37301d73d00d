"""What must outlive the router: keys, tokens, revocations, cordons, the CA, audit lines."""
