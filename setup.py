"""The one thing that setup.cfg cannot say: how the guard is compiled."""

from setuptools import Extension, setup

SOURCES = (
    *("module", "file_object", "hooks", "accepting", "connections", "receiving", "framing", "sending"),
    *("sweeping", "files", "warm", "cold", "pressing", "repeating", "repeating_methods"),
)
HEADERS = ("guard", "framing", "files", "file_object", "methods")

setup(
    ext_modules=[
        Extension(
            "edge_server.guard._guard",
            sources=[f"edge_server/guard/{name}.c" for name in SOURCES],
            depends=[f"edge_server/guard/{name}.h" for name in HEADERS],
            include_dirs=["/usr/include/libev", "/usr/local/include"],
            libraries=["ev"],
            extra_compile_args=[
                "-std=c11",
                "-O2",
                "-fno-strict-aliasing",  # ev.h looks at one structure through the type of another
                "-Wall",
                "-Wextra",
                "-Werror",
                "-fvisibility=hidden",
            ],
        )
    ]
)
