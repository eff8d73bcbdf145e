# SPDX-License-Identifier: Apache-2.0
"""The agent of `runtime/bsp/agent.h` as a program for a board, and images of kernels for its memory.

python -m bnncc.tuning.firmware cortex-m4 agent.elf --baud 115200     # to be flashed by hand
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from bnncc import runtime, targets
from bnncc.diagnostics import BnnccError
from bnncc.execution import boards
from bnncc.targets import Target
from bnncc.toolchain import c_compiler

BAUD = 115200

NUMBER = "number"
"""The file beside a program that holds its image's number, which tells it from others."""


@dataclass(frozen=True)
class Image:
    """Kernels that are linked for the memory that an agent has for them."""

    address: int
    bytes: int


@dataclass(frozen=True)
class Agent:
    """A whole firmware, the agent with the kernels in it."""

    baud: int = BAUD


def link_image(target: Target, folder: Path, image: Image, library: str) -> Path:
    """The kernels of a library in `folder`, beside which lies their `kernels.h`."""
    memory = replace(target, ram_address=image.address, ram_bytes=image.bytes, flash_bytes=0)
    boards.copy_sources(folder, ("image.c",))
    options = (*boards.bare_options(memory, folder, "image.ld"), "-Wl,--entry=0")
    c_compiler.find(target).link_program(("image.c",), library, folder / "image.elf", options)
    return folder / "image.elf"


def link_agent(target: Target, folder: Path, agent: Agent, library: str = "") -> Path:
    """The agent for a board that our start-up code starts; with the kernels of a library in `folder`.

    Raises BnnccError where the target does not say how its serial port works."""
    driver = _driver(target)
    own = runtime.BOARDS / driver.name == driver
    sources = ["agent.c", f"{target.system}.c", driver.name, *(["image.c"] if library else [])]
    boards.copy_sources(folder, [name for name in sources if own or name != driver.name])
    if not own:
        shutil.copy(driver, folder)
    lines = [
        f'#define AGENT_CORE "{target.name}"',
        f"#define AGENT_CLOCK {target.serial_clock}u",
        f"#define AGENT_UART {target.serial_address}u",
        f"#define AGENT_BAUD {agent.baud}u",
        *(["#define AGENT_IMAGE"] if library else []),
    ]
    (folder / "agent_config.h").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = (*boards.bare_options(target, folder), "-DBNNCC_AGENT")
    c_compiler.find(target).link_program(sources, library, folder / "agent.elf", options)
    return folder / "agent.elf"


def _driver(target: Target) -> Path:
    """The C file of the serial port."""
    hint = "runtime/bsp/agent.h says how a firmware of your own becomes an agent"
    if not target.is_bare or not target.serial_driver:
        raise BnnccError(
            f"target {target.name}", "it does not say which serial port the board has ([serial])", hint
        )
    if target.serial_driver.endswith(".c"):
        path = Path(target.serial_driver)
    else:
        path = runtime.BOARDS / f"uart_{target.serial_driver}.c"
    if not path.is_file():
        raise BnnccError(f"target {target.name}", f"there is no serial driver {path}", hint)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Write the agent for a target."""
    parser = argparse.ArgumentParser(prog="python -m bnncc.tuning.firmware", description=main.__doc__)
    parser.add_argument("target")
    parser.add_argument("file", type=Path)
    parser.add_argument("--baud", type=int, default=BAUD)
    chosen = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
            program = link_agent(targets.load(chosen.target), Path(folder), Agent(chosen.baud))
            shutil.copy(program, chosen.file)
    except BnnccError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
