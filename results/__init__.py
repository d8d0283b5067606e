"""The run folder: manifest, records, LoadGen's logs, percentiles, verdict, summary."""
