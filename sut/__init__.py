"""LoadGen's side: QSL, SUT and settings. The only room that imports `mlperf_loadgen`."""
