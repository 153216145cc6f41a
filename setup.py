"""The one thing pyproject.toml cannot say: an extension module that may fail to build.

Without a C compiler the installation goes on, and protocol/encryption/keys.py computes with gmpy2 alone.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "protocol.encryption._kernel",
            sources=[
                f"protocol/encryption/native/{name}.c"
                for name in ("python/module", "modulus", "plan", "path_ifma", "path_avx2")
            ],
            depends=[
                f"protocol/encryption/native/{name}.h"
                for name in (
                    "kernel",
                    "lanes_ifma",
                    "lanes_avx2",
                    "montgomery",
                    "vectors",
                    "products",
                    "comb",
                    "path",
                    "python/arguments",
                    "python/modulus_object",
                    "python/fixed_base_object",
                )
            ],
            # The arithmetic's inner loops must be unrolled for their sums to stay in registers.
            extra_compile_args=["-O3"],
            optional=True,
        )
    ]
)
