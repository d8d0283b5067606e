# shellcheck shell=bash
# Variables for all concurrencies of a pair of lengths, in bash and zsh: source all_conc_var.sh
# Edit a value here, or export another one afterwards.

export MODEL="openai/gpt-oss-120b"
export PORT=8888
export TP=8
export MAX_MODEL_LEN=16384
export RANDOM_RANGE_RATIO=1.0
# export TEAM_NAME_ENV="YourTeam"  # the team where submit is given none

echo "Set: MODEL=$MODEL PORT=$PORT TP=$TP MAX_MODEL_LEN=$MAX_MODEL_LEN"
echo "     RANDOM_RANGE_RATIO=$RANDOM_RANGE_RATIO"
echo "Next: bash launch_vllm_server.sh, and when it says ready, in a new window: source this again, then"
echo "      ./gptoss_benchmark submit \"YourTeam\" -isl 1024 -osl 1024"
echo "      and the same with -isl 1024 -osl 8192, and -isl 8192 -osl 1024. They win over ISL, OSL and"
echo "      CONC, should an earlier specific_conc_var.sh have left these."
