"""`cogjax serve`: a page and a JSON API in front of models (docs/serving.md)."""
