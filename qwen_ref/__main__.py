import sys

from qwen_ref.cli import main

sys.exit(main())
