"""What is learned while serving: speed, output length, lead over a TPOT target, who holds which prefix. Pure."""
