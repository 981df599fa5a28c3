"""The `svc-edge` command, one module per sub-command."""
