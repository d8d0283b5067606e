# shellcheck shell=bash
# Variables for one configuration, in bash and zsh: source specific_conc_var.sh
# Edit a value here, or export another one afterwards (CONC and NUM_PROMPTS belong together).

export MODEL="amd/DeepSeek-R1-0528-MXFP4-Preview"
export PORT=8888
export TP=8
export ISL=1024
export OSL=1024
export CONC=16
export MAX_MODEL_LEN=16384
export RANDOM_RANGE_RATIO=1.0
export NUM_PROMPTS=$((OSL == 8192 ? CONC * 20 : CONC * 50))
export RESULT_FILENAME="result_isl${ISL}_osl${OSL}_conc${CONC}"

echo "Set: MODEL=$MODEL PORT=$PORT TP=$TP ISL=$ISL OSL=$OSL CONC=$CONC"
echo "     MAX_MODEL_LEN=$MAX_MODEL_LEN RANDOM_RANGE_RATIO=$RANDOM_RANGE_RATIO"
echo "     NUM_PROMPTS=$NUM_PROMPTS RESULT_FILENAME=$RESULT_FILENAME"
echo "Next: bash launch_sglang_server.sh, and when it says ready, in a new window: source this again, then"
echo "      ./dsr1_benchmark submit \"YourTeam\"   (or: acc, perf)"
