"""Harmony's text form: how a question is put to GPT-OSS, and how an answer of two channels looks."""

from __future__ import annotations

SPECIALS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
)


def prompt_text(question: str) -> str:
    """Return the user's message, up to where the assistant goes on."""
    return f"<|start|>user<|message|>{question}<|end|><|start|>assistant"


def answer_text(reasoning: str, answer: str) -> str:
    """Return what the assistant goes on with."""
    analysis = f"<|channel|>analysis<|message|>{reasoning}<|end|>"
    return f"{analysis}<|start|>assistant<|channel|>final<|message|>{answer}<|return|>"
