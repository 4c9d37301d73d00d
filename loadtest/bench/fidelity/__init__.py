"""`make bench-simfidelity`: the simulated engine against the real worker that its profile was measured on."""
