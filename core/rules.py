"""MLPerf's figures for gpt-oss-120b that are not LoadGen keys (those are in `mlperf.conf`).

Source: mlcommons/inference, language/gpt-oss-120b and loadgen/mlperf.conf, round v6.1.
"""

from __future__ import annotations

PERFORMANCE_SAMPLES = 6396
ACCURACY_SAMPLES = 4395
PERFORMANCE_MAX_TOKENS = 10240
ACCURACY_MAX_TOKENS = 32768

# A vocabulary's padded size; an id beyond it kills some engines (facts: SGLang's scheduler).
VOCABULARY = 201_088
# LoadGen divides by n_tokens - 1, so an answer needs two tokens to have a TPOT.
MIN_ANSWER_TOKENS = 2

# Accuracy: what the reference scored in percent, and the share of it that a submission must reach.
REFERENCE_ACCURACY = 83.13
ACCURACY_TARGET_RATIO = 0.99
ACCURACY_TARGET = REFERENCE_ACCURACY * ACCURACY_TARGET_RATIO  # 82.2987
