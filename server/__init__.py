"""Serving: one engine replica per GPU, SGLang or vLLM. Only the standard library is imported here,
because this room also runs inside an engine's container, with the engine's own Python."""
