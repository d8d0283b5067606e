"""An engine of our own that answers both wire dialects, over real HTTP/1.1.

Two generators stand behind one server: the *clock* keeps time instead of thinking (tests and
benchmarks of the client), the *model* is a tiny GPT-OSS run on CPU by transformers' continuous
batching (a first run without a GPU). `python -m engine clock|model --help`.
"""
