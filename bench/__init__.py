"""What the harness itself costs, measured against the emulator: CPU time, never wall time."""
