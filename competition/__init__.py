"""The InferenceMAX-style competition: accuracy, then throughput and latency over ISL, OSL and CONC."""
