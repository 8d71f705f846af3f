"""One evaluation of a model a file, run and cached by `run.py` and `cache.py`."""
