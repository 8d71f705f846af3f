"""Models of ours for others: public names, and programs that need no cogjax."""
