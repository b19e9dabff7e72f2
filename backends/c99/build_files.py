"""The files by which CMake, the Arduino IDE, Zephyr and PlatformIO take the C of a bundle."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from snnc.backends.c99 import selftest
from snnc.backends.c99.examples import main_program, sketch
from snnc.backends.c99.source import comment
from snnc.ir.snn import SnnGraph

EXAMPLE = "golden"
"""Name of the example: it runs the golden vectors."""

LIBRARY_VERSION = "1.0.0"
"""Of the library that a bundle is, which package managers ask for; it says nothing of the network."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What the files of a build system speak of.

    Attributes:
        graph: the network.
        sources: names of its C sources, without folders.
    """

    graph: SnnGraph
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        """The network's name as an identifier, for package managers."""
        word = re.sub(r"[^A-Za-z0-9]+", "_", self.graph.name).strip("_")[:40]
        return f"snnc_{word or 'network'}"

    @property
    def sentence(self) -> str:
        """One line about it, without quotes."""
        return comment(f"The spiking network {self.graph.name[:60]}, as C of integers only, by snnc.")


def plain(contents: Contents) -> dict[str, str]:
    """Return nothing: the C alone."""
    return {}


def cmake(contents: Contents) -> dict[str, str]:
    """Return what CMake needs: a static library, the example and its tests."""
    sources = "\n".join(f"    src/{name}" for name in contents.sources)
    return {
        "CMakeLists.txt": _CMAKE.replace("@SOURCES@", sources).replace("@ABOUT@", contents.sentence),
        f"example/{EXAMPLE}.c": main_program(contents.graph),
    }


def arduino(contents: Contents) -> dict[str, str]:
    """Return what the Arduino IDE needs: the properties of a library, and a sketch."""
    properties = {
        "name": contents.name,
        "version": LIBRARY_VERSION,
        "author": "snnc",
        "maintainer": "snnc",
        "sentence": contents.sentence,
        "paragraph": "It allocates nothing and needs no floats; the example runs it on its golden vectors.",
        "category": "Data Processing",
        "url": "",  # asked for, but there is none to give
        "architectures": "*",
        "includes": "snnc_network.h",
    }
    return {
        "library.properties": "".join(f"{key}={value}\n" for key, value in properties.items()),
        f"examples/{EXAMPLE}/{EXAMPLE}.ino": sketch(contents.graph),
    }


def platformio(contents: Contents) -> dict[str, str]:
    """Return what PlatformIO needs: the manifest of a library, and a project."""
    folder = f"examples/{EXAMPLE}"
    library = {
        "name": contents.name,
        "version": LIBRARY_VERSION,
        "description": contents.sentence,
        "keywords": ["spiking neural network", "inference"],
        "frameworks": "*",
        "platforms": "*",
        "headers": ["snnc_network.h"],
        "examples": [
            {
                "name": EXAMPLE,
                "base": folder,
                "files": ["platformio.ini", "src/main.c", f"src/{selftest.VECTORS}"],
            }
        ],
        "build": {"srcDir": "src"},
    }
    return {
        "library.json": json.dumps(library, indent=2) + "\n",
        f"{folder}/platformio.ini": _PLATFORMIO,
        f"{folder}/src/main.c": main_program(contents.graph),
    }


def zephyr(contents: Contents) -> dict[str, str]:
    """Return what Zephyr needs: a module with its options, and a sample."""
    folder = f"samples/{EXAMPLE}"
    sources = "\n".join(f"    src/{name}" for name in contents.sources)
    return {
        "zephyr/module.yml": _MODULE,
        "CMakeLists.txt": _ZEPHYR.replace("@SOURCES@", sources).replace("@ABOUT@", contents.sentence),
        "Kconfig": _KCONFIG.replace("@ABOUT@", contents.sentence),
        f"{folder}/CMakeLists.txt": _ZEPHYR_SAMPLE,
        f"{folder}/prj.conf": "CONFIG_SNNC_NETWORK=y\nCONFIG_MAIN_STACK_SIZE=4096\n",
        f"{folder}/sample.yaml": _SAMPLE,
        f"{folder}/src/main.c": main_program(contents.graph, include="<zephyr/sys/printk.h>", call="printk"),
    }


_CMAKE = f"""\
# @ABOUT@
cmake_minimum_required(VERSION 3.13)
project(snnc_network C)

add_library(snnc_network STATIC
@SOURCES@
)
add_library(snnc::network ALIAS snnc_network)
target_include_directories(snnc_network PUBLIC src)
target_compile_features(snnc_network PUBLIC c_std_99)

# Names of linker sections; empty for the compiler's own.
set(SNNC_WEIGHTS_SECTION "" CACHE STRING "Linker section of the weights")
set(SNNC_STATE_SECTION "" CACHE STRING "Linker section of the state")
foreach(name SNNC_WEIGHTS_SECTION SNNC_STATE_SECTION)
    if(${{name}})
        set(attribute "__attribute__((section(\\"${{${{name}}}}\\")))")
        target_compile_definitions(snnc_network PUBLIC "${{name}}=${{attribute}}")
    endif()
endforeach()

# The example and the self-test, where this is the whole project and not a part of another.
if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
    set(SNNC_DEFAULT_EXAMPLE ON)
    if(NOT CMAKE_BUILD_TYPE)
        set(CMAKE_BUILD_TYPE Release)
    endif()
else()
    set(SNNC_DEFAULT_EXAMPLE OFF)
endif()
option(SNNC_EXAMPLE "Build the example and the self-test" ${{SNNC_DEFAULT_EXAMPLE}})
if(SNNC_EXAMPLE)
    enable_testing()
    add_executable(snnc_{EXAMPLE} example/{EXAMPLE}.c)
    add_executable(snnc_selftest extras/{selftest.PROGRAM})
    target_include_directories(snnc_selftest PRIVATE example)
    foreach(program snnc_{EXAMPLE} snnc_selftest)
        target_link_libraries(${{program}} PRIVATE snnc_network)
        add_test(NAME ${{program}} COMMAND ${{program}})
    endforeach()
endif()
"""

_PLATFORMIO = f"""\
; Runs the network on its golden inputs: pio run -t exec
[env:native]
platform = native
lib_deps = symlink://../..

; A board has a platform, a framework and a name of its own. Linker sections, where it needs them:
; build_flags = '-DSNNC_WEIGHTS_SECTION=__attribute__((section(".weights")))'
; The program is src/main.c, with its inputs in src/{selftest.VECTORS}.
"""

_MODULE = """\
# A module of Zephyr, for EXTRA_ZEPHYR_MODULES or a west manifest.
name: snnc_network
build:
  cmake: .
  kconfig: Kconfig
samples:
  - samples
"""

_ZEPHYR = """\
# @ABOUT@
if(CONFIG_SNNC_NETWORK)
  zephyr_include_directories(src)
  zephyr_library_named(snnc_network)
  zephyr_library_sources(
@SOURCES@
  )
  if(CONFIG_SNNC_NETWORK_WEIGHTS_SECTION)
    zephyr_compile_definitions(
      "SNNC_WEIGHTS_SECTION=__attribute__((section(\\"${CONFIG_SNNC_NETWORK_WEIGHTS_SECTION}\\")))"
    )
  endif()
  if(CONFIG_SNNC_NETWORK_STATE_SECTION)
    zephyr_compile_definitions(
      "SNNC_STATE_SECTION=__attribute__((section(\\"${CONFIG_SNNC_NETWORK_STATE_SECTION}\\")))"
    )
  endif()
endif()
"""

_KCONFIG = """\
config SNNC_NETWORK
    bool "Spiking network compiled by snnc"
    help
      @ABOUT@

if SNNC_NETWORK

config SNNC_NETWORK_WEIGHTS_SECTION
    string "Linker section of the weights"
    default ""
    help
      Empty for the compiler's own.

config SNNC_NETWORK_STATE_SECTION
    string "Linker section of the state"
    default ""
    help
      Where SNNC_STATE_SECTION puts the state that an application declares.
      Empty for the compiler's own.

endif
"""

_ZEPHYR_SAMPLE = f"""\
cmake_minimum_required(VERSION 3.20.0)
get_filename_component(network ${{CMAKE_CURRENT_SOURCE_DIR}}/../.. ABSOLUTE)
list(APPEND EXTRA_ZEPHYR_MODULES ${{network}})
find_package(Zephyr REQUIRED HINTS $ENV{{ZEPHYR_BASE}})
project(snnc_{EXAMPLE} C)
target_sources(app PRIVATE src/main.c)
"""

_SAMPLE = f"""\
sample:
  name: Golden vectors of a spiking network
tests:
  sample.snnc_network.{EXAMPLE}:
    tags: snnc
    harness: console
    harness_config:
      type: one_line
      regex:
        - "PASSED"
"""
