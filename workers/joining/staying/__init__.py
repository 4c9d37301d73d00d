"""How a worker stays on a machine after it joined: started again after a reboot or an upgrade, or taken away."""
