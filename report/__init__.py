"""Showing results: the card on the screen, and progress while a run goes on."""
