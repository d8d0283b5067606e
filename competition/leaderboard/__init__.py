"""The leaderboard: Gradio pages over SQLite. Start: `python -m competition.leaderboard serve`."""
