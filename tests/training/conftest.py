"""Makes the scenario that kill tests run as a process importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
