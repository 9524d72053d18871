import sys

BITS = (
    "qwen_ref: this Python has 32 bits, and what it is made of comes for 64 only: install a 64-bit system "
    "(for a Raspberry Pi 3 or newer there is Raspberry Pi OS, 64-bit)"
)


def main() -> int:
    if sys.maxsize < 1 << 32:  # before anything is imported that there is not for such a system
        print(BITS, file=sys.stderr)
        return 2
    try:
        from qwen_ref import cli

        return cli.main()
    except KeyboardInterrupt:  # while modules load, too
        return 130


if __name__ == "__main__":
    sys.exit(main())
