import sys


def main() -> int:
    try:
        from qwen_ref import cli

        return cli.main()
    except KeyboardInterrupt:  # while modules load, too
        return 130


if __name__ == "__main__":
    sys.exit(main())
