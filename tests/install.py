# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.install`: the programs that the tests run, from the system's packages if missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "qemu-aarch64": "qemu-user",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv32": "qemu-system-misc",
    "mlir-opt-19": "mlir-19-tools",
    "llc-19": "llvm-19",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
}
"""Debian's package of each program."""


def main() -> int:
    """Install what is missing; say what to do where that cannot be."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return 0
    apt, sudo = shutil.which("apt-get"), shutil.which("sudo")
    if apt is None or (os.geteuid() != 0 and sudo is None):
        print(f"the tests need more: install {' '.join(missing)} (or what your system calls them)")
        return 1
    as_root = [] if os.geteuid() == 0 else [sudo or "sudo"]
    environment = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", apt]
    print(f"installing {' '.join(missing)}", flush=True)
    subprocess.run([*environment, "-qq", "update"], check=False)
    command = [*environment, "-qq", "install", "--no-install-recommends", "-y", *missing]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
