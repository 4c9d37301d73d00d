"""The contract in Python: values that router and workers share, and the one codec between them and the wire."""
