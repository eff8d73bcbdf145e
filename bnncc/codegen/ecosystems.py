# SPDX-License-Identifier: Apache-2.0
"""Folders that build systems of firmware take in: CMake, Arduino, PlatformIO, Zephyr, ESP-IDF.

Each holds the network as one portable C file with its header, the description that the build system reads,
and the self-test as an example. Only CMake takes a library that is compiled already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bnncc.codegen.text import in_comment

PACKAGES = ("cmake", "arduino", "platformio", "zephyr", "esp-idf")


@dataclass(frozen=True)
class Parts:
    """What a package is made of.

    name: the library's; version: the compiler's; source: the model's file name; header, code, selftest: C
    texts; archive: whether `lib<name>.a` is linked instead of compiling `code`."""

    name: str
    version: str
    source: str
    header: str
    code: str
    selftest: str
    archive: bool = False
    stateful: bool = False
    """Whether the library keeps states from step to step."""
    threads: bool = False
    """Whether threads share its layers."""

    @property
    def sentence(self) -> str:
        """What it is, on one line of printable ASCII."""
        return f"The neural network {in_comment(self.source)}, compiled by bnncc {self.version}"


def package_files(kind: str, parts: Parts) -> dict[str, str]:
    """Texts by path within the package's folder; kind: one of PACKAGES."""
    return _MAKERS[kind](parts)


def _sources(parts: Parts, folder: str = "src") -> dict[str, str]:
    code = {} if parts.archive else {f"{folder}/{parts.name}.c": parts.code}
    return {f"{folder}/{parts.name}.h": parts.header, **code}


def _cmake(parts: Parts) -> dict[str, str]:
    name = parts.name
    if parts.archive:
        library = f"""\
add_library({name} STATIC IMPORTED GLOBAL)
set_target_properties({name} PROPERTIES
    IMPORTED_LOCATION ${{CMAKE_CURRENT_LIST_DIR}}/lib/lib{name}.a
    INTERFACE_INCLUDE_DIRECTORIES ${{CMAKE_CURRENT_LIST_DIR}}/src)
set(scope INTERFACE)"""
    else:
        library = f"""\
add_library({name} STATIC src/{name}.c)
target_include_directories({name} PUBLIC src)
set_target_properties({name} PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
set(scope PUBLIC)"""
    threads = f"""\
find_package(Threads REQUIRED)
target_link_libraries({name} ${{scope}} Threads::Threads)
"""
    return {
        **_sources(parts),
        f"examples/{name}_selftest.c": parts.selftest,
        "CMakeLists.txt": f"""\
# {parts.sentence}.
# In your project: add_subdirectory({name}), then target_link_libraries(YOURS PRIVATE {name}).
cmake_minimum_required(VERSION 3.13)
project({name} C)

{library}
# The mathematical library, where there is one.
if(UNIX)
    target_link_libraries({name} ${{scope}} m)
endif()
{threads * parts.threads}""",
    }


def _arduino(parts: Parts) -> dict[str, str]:
    name = parts.name
    stream = parts.stateful
    call = f"{name}_step" if stream else f"{name}_run"
    passed = "arena, state" if stream else "arena"
    state = f"static {name.upper()}_ALIGNED unsigned char state[{name.upper()}_STATE_BYTES];\n" * stream
    return {
        **_sources(parts),
        "library.properties": f"""\
name={name}
version={parts.version}
author=bnncc
maintainer=bnncc
sentence={parts.sentence}.
paragraph=Call {call} with an arena of {name.upper()}_ARENA_BYTES bytes. No function allocates memory.
category=Data Processing
url=
architectures=*
includes={name}.h
""",
        "examples/SelfTest/SelfTest.ino": f"""\
// Checks that {name} answers on this board as it should; open the serial monitor at 115200 baud.
#include <{name}.h>

static {name.upper()}_ALIGNED unsigned char arena[{name.upper()}_ARENA_BYTES];
{state}
void setup() {{
  Serial.begin(115200);
  while (!Serial) {{
  }}
  Serial.println({name}_selftest({passed}) == 0 ? "passed" : "FAILED");
}}

void loop() {{
}}
""",
        f"examples/SelfTest/{name}_selftest.c": parts.selftest,
    }


def _platformio(parts: Parts) -> dict[str, str]:
    description = {
        "name": parts.name,
        "version": parts.version,
        "description": f"{parts.sentence}.",
        "frameworks": "*",
        "platforms": "*",
        "headers": f"{parts.name}.h",
    }
    return {
        **_sources(parts),
        "library.json": json.dumps(description, indent=2) + "\n",
        f"examples/selftest/{parts.name}_selftest.c": parts.selftest,
    }


def _zephyr(parts: Parts) -> dict[str, str]:
    name, option = parts.name, f"BNNCC_{parts.name.upper()}"
    return {
        **_sources(parts),
        f"examples/{name}_selftest.c": parts.selftest,
        "zephyr/module.yml": f"name: {name}\nbuild:\n  cmake: .\n  kconfig: Kconfig\n",
        "Kconfig": f"""\
config {option}
	bool "{_quoted(parts)}"
""",
        "CMakeLists.txt": f"""\
# {parts.sentence}. Name this folder in ZEPHYR_EXTRA_MODULES and set CONFIG_{option}=y.
if(CONFIG_{option})
    zephyr_library_named({name})
    zephyr_library_sources(src/{name}.c)
    zephyr_include_directories(src)
endif()
""",
    }


def _quoted(parts: Parts) -> str:
    """The sentence between double quotes; a dollar would begin a macro of Kconfig, which may call a shell."""
    return parts.sentence.replace('"', "'").replace("$", "_")


def _esp_idf(parts: Parts) -> dict[str, str]:
    name = parts.name
    return {
        **_sources(parts),
        f"examples/{name}_selftest.c": parts.selftest,
        "CMakeLists.txt": f"""\
# {parts.sentence}. Put this folder into the `components` of your project.
idf_component_register(SRCS "src/{name}.c" INCLUDE_DIRS "src")
""",
        "idf_component.yml": f"""\
version: "{parts.version}"
description: "{_quoted(parts)}"
dependencies:
  idf: ">=4.4"
""",
    }


_MAKERS: Mapping[str, Callable[[Parts], dict[str, str]]] = dict(
    zip(PACKAGES, (_cmake, _arduino, _platformio, _zephyr, _esp_idf), strict=True)
)
