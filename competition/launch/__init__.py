"""The server of the competition: one engine over TP GPUs, as its launch scripts mean it.

Runs inside engine containers: of ours it needs core/, server/ and competition/profile.py, and beyond
them nothing but the standard library.
"""
