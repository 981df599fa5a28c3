"""The store of filled objects, addressed by content: bodies as files in two tiers."""
