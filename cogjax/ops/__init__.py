"""Array mathematics: functions of arrays that import only jax, numpy and einops."""
