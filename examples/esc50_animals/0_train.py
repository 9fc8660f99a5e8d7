"""Train on the animals of ESC-50, with one of the five official folds held out.

python examples/esc50_animals/0_train.py --data-dir path/to/esc50
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from esc50 import train  # examples/esc50.py

if __name__ == "__main__":
    train(__doc__, subset="animals", epochs=30)
