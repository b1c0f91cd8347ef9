"""Arrays as circuits: what the resistance of the wires does to the currents, solved exactly."""
