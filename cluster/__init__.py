"""The machine that engines and harness are to run on: what it is, and what stands in the way."""
