"""The supervisor: forks, pins and watches; serves nothing."""
