"""A small world to serve: built by `svc-edge demo`, and the proof that it is served right."""
