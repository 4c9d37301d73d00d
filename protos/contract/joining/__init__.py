"""How a machine is let in: tokens, certificates, what is asked and answered, and which versions understand another."""
