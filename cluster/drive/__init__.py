"""The orchestrator: runs on a job's first node, starts servers on all, measures, cleans up."""
