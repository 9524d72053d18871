"""What setup.cfg asks for, a requirement a line: for another machine, or in the oldest versions allowed.

tests/requirements.py [--oldest] [--machine aarch64] [EXTRA …]
"""

import argparse
import configparser
import platform
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("extras", nargs="*", metavar="EXTRA", help="of setup.cfg: test, oracle, tiny")
parser.add_argument("--oldest", action="store_true", help="exactly the lower bounds, for pip's --constraint")
parser.add_argument("--machine", default=platform.machine())
args = parser.parse_args()

config = configparser.ConfigParser()
config.read(Path(__file__).parents[1] / "setup.cfg")
lines = config["options"]["install_requires"]
lines += "".join(config["options.extras_require"][extra] for extra in args.extras)
for line in filter(None, lines.splitlines()):
    requirement = Requirement(line)
    if requirement.marker and not requirement.marker.evaluate({"platform_machine": args.machine}):
        continue
    bounds = [bound.version for bound in requirement.specifier if bound.operator in (">=", "==")]
    if not args.oldest:
        print(f"{requirement.name}{requirement.specifier}")
    elif bounds:
        print(f"{requirement.name}=={bounds[0]}")
