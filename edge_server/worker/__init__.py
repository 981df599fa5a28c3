"""The worker: bjoern, the hit path and the Falcon app of the asset plane."""
