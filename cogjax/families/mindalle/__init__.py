"""minDALL-E (Kim et al. 2021, github.com/kakaobrain/minDALL-E)."""
