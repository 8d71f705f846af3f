"""One kind of training run a file: from a config to a trained model."""
