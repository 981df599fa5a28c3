"""The one thing that setup.cfg cannot say: how the guard is compiled."""

from setuptools import Extension, setup

SOURCES = ("module", "hooks", "accepting", "connections", "receiving", "framing", "sending", "sweeping")

setup(
    ext_modules=[
        Extension(
            "edge_server.guard._guard",
            sources=[f"edge_server/guard/{name}.c" for name in SOURCES],
            depends=["edge_server/guard/guard.h", "edge_server/guard/framing.h"],
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
