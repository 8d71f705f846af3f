"""One module a sub-command group: its flags, and a handler that imports the rest."""
