"""One step of a loaded model: whom it admits, which tokens it plans and decodes, what is drawn and kept."""
