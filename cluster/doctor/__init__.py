"""Gathered facts (`read_*`), pure checks over them (`check_*`), a screen. Standard library only."""
