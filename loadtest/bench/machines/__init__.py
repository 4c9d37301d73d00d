"""What machines and servers do behind us, measured: ``make bench-machines``."""
