"""The chaos drill: load and faults against a running instance on this machine, judged and reported.

Runs in a process of its own, started by ``cli/drill.py``; to the instance it is a client, an
operator who reads the admin plane, and whoever sends its children signals.
"""
