"""Pure HTTP semantics: no I/O, no process."""
