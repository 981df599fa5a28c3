"""Packs behind one reader protocol. Knows no process."""
