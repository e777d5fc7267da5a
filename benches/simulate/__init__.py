"""Services as discrete-event simulations: what `benches/corpus.py` writes labelled corpora of."""
