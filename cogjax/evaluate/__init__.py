"""Figures of a trained model, by judges that are not the model."""
