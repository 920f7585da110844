"""Tests of the package, outside of any host: `python -m unittest` in the folder above."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
