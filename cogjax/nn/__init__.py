"""Network layers shared by the models: Linen modules used as pure init/apply."""
