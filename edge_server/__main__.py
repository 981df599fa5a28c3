"""``python -m edge_server`` is ``svc-edge``."""

from __future__ import annotations

import sys

from edge_server.cli.main import main

sys.exit(main())
