"""Test the saved model on the held-out fold, and write a report with scores and plots beside this script.

python examples/esc50_animals/1_test.py --data-dir path/to/esc50
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from esc50 import test  # examples/esc50.py

if __name__ == "__main__":
    test(__doc__, subset="animals", output_dir=Path(__file__).parent)
