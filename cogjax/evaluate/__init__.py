"""How good a model is: metrics, judges, suites and reports."""
