"""The package, its dependencies and its extras. Tool settings are in pyproject.toml."""

from setuptools import find_packages, setup

BOARD = ["unicorn>=2.1,<3", "capstone>=5,<6", "pyelftools", "ziglang"]
DEMO = [
    *BOARD,
    "mlxtend",
    # Wheels exist for this platform only; elsewhere that comparison is left out.
    'tflite-micro; platform_system == "Linux" and platform_machine == "x86_64"',
]
REPORT = ["matplotlib", "tensorboard"]
DOCS = ["mkdocs-material", "mkdocstrings[python]"]
# What benchmarks/cpu_*.py compare with; what is missing is left out.
BENCHMARK = [*REPORT, "mkl", "onnx", "onnxruntime", "scipy", "threadpoolctl"]
TEST = [
    *DEMO,
    *REPORT,
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "tf_keras",
    "cmake",
    # Formatters are pinned: another version lays out the same code differently.
    "ruff==0.17.6",
    "clang-format==23.1.5",
]

setup(
    name="scalpel_tf",
    version="0.1.0",
    description="Prune Keras models to the width of the hardware and run them on a Cortex-M",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C",
        "Programming Language :: C++",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Embedded Systems",
    ],
    packages=[*find_packages(include=["scalpel_tf", "scalpel_tf.*"]), "scalpel_tf.custom_ops"],
    # The C++ ops go along as sources: `scalpel-tf build` compiles them where they are installed.
    package_dir={"scalpel_tf.custom_ops": "custom_ops"},
    package_data={
        "scalpel_tf.deploy": [
            "runtime/*",
            "firmware/*",
            "firmware/*/*",
            "board_hook.c",
            "skeletons/*/*",
        ],
        "scalpel_tf.custom_ops": ["*.cc", "*.h", "native/*"],
        "scalpel_tf.report_page": ["page.html", "page.css"],
    },
    exclude_package_data={"scalpel_tf.custom_ops": ["*_test.cc", "*_main.cc"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "tensorflow>=2.16,<2.22",
        "keras>=3.3",
        "tensorflow-model-optimization",
        "numpy",
        "absl-py",
        "flatbuffers",
        "ai-edge-litert",
    ],
    extras_require={
        "board": BOARD,
        "demo": DEMO,
        "report": REPORT,
        "benchmark": BENCHMARK,
        "docs": DOCS,
        "test": TEST,
    },
    entry_points={"console_scripts": ["scalpel-tf = scalpel_tf.cli:main"]},
)
