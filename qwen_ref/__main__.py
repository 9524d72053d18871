import sys

try:
    from qwen_ref.cli import main

    status = main()
except KeyboardInterrupt:  # while modules load, too
    status = 130
sys.exit(status)
