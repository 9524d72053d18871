import os
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"  # lessons that run as scripts open no window
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "lessons"))
