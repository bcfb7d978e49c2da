"""The facts of each processor that a network is fitted to, each with its source.

Parallelism classes are those of Yu et al., Scalpel, ISCA 2017, section 3: a microcontroller is
"low", a CPU "moderate", a GPU "high".
"""

from dataclasses import dataclass, field

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Board:
    """A real board: bytes of flash and of RAM that a program on it can use, and where they begin.

    ram_bank: bytes in one piece from ram_origin on, where RAM is in several; None where it is not.
    boot: what it wants beside vectors at flash_origin to start a program, as a sentence.
    """

    name: str
    flash: int
    ram: int
    source: str
    flash_origin: int = 0x08000000
    ram_origin: int = 0x20000000
    ram_bank: int | None = None
    boot: str = ""


@dataclass(frozen=True)
class Peak:
    """What a processor can do at most, in one cycle or, where that was measured, in one second.

    macs: multiply-accumulates, of int8 in a cycle, of float32 in a second.  bytes: loaded, in a
    cycle from memories that never make it wait.  No kernel reaches both.
    """

    macs: float
    bytes: float
    source: str

    def time(self, macs: float, weights: float) -> float:
        """Cycles, or seconds, that no kernel goes below which does `macs` and loads `weights` bytes
        once."""
        return max(macs / self.macs, weights / self.bytes)


@dataclass(frozen=True)
class Target:
    """A processor.

    parallelism: "low", "moderate" or "high".
    simd_width: dtype -> weights that one SIMD register or, without SIMD, one word load holds.
    group_width: weights pruned together by default; None where whole nodes are pruned instead.
    features: instruction-set extensions that the kernels choose by ("dsp", "fpu", "mve", ...).
    boards: real boards, smallest flash first; empty where memory is no limit.
    peak: of a microcontroller, for the roofline; None for other targets.
    source: where these facts are from.
    """

    name: str
    parallelism: str
    simd_width: dict[str, int]
    group_width: int | None
    features: frozenset[str] = frozenset()
    boards: tuple[Board, ...] = field(default=())
    source: str = ""
    peak: Peak | None = None

    @property
    def is_microcontroller(self) -> bool:
        return self.parallelism == "low"


WORD = {"int8": 4, "int16": 2, "float32": 1}

_TARGETS = (
    Target(
        "cortex-m0plus",
        "low",
        WORD,
        4,
        boards=(
            Board("STM32L053R8", 64 * KIB, 8 * KIB, "ST, STM32L053x8 datasheet"),
            Board("STM32G071RB", 128 * KIB, 36 * KIB, "ST, STM32G071xB datasheet"),
            Board(
                "Raspberry Pi Pico",
                2 * MIB,
                264 * KIB,
                "Raspberry Pi, Pico datasheet",
                0x10000000,
                boot="Its boot ROM wants the second-stage loader of the Pico SDK in front.",
            ),
        ),
        source="Arm, Cortex-M0+ Technical Reference Manual: ARMv6-M, no SIMD, 32-bit loads",
        peak=Peak(0.5, 2, "Arm, Cortex-M0+ TRM, 3.3: MULS 1 and ADDS 1 cycle, LDR 2 cycles"),
    ),
    Target(
        "cortex-m3",
        "low",
        WORD,
        4,
        boards=(
            Board("STM32F103C8", 64 * KIB, 20 * KIB, "ST, STM32F103x8 datasheet"),
            Board("STM32L152RE", 512 * KIB, 80 * KIB, "ST, STM32L152xE datasheet"),
            Board(
                "LPC1768",
                512 * KIB,
                64 * KIB,
                "NXP, LPC1768 datasheet",
                0,
                0x10000000,
                32 * KIB,
                boot="Its boot ROM wants a checksum of the vectors, which flashing tools add.",
            ),
        ),
        source="Arm, Cortex-M3 Technical Reference Manual: ARMv7-M, no SIMD, 32-bit loads",
        peak=Peak(0.5, 4, "Arm, Cortex-M3 TRM, 3.3: MLA 2 cycles, a pipelined LDR 1 cycle"),
    ),
    Target(
        "cortex-m4",
        "low",
        WORD,
        4,
        features=frozenset({"dsp", "fpu"}),
        boards=(
            Board("STM32F401CC", 256 * KIB, 64 * KIB, "ST, STM32F401xC datasheet"),
            Board("STM32F446RE", 512 * KIB, 128 * KIB, "ST, STM32F446xE datasheet"),
            Board("nRF52840", 1 * MIB, 256 * KIB, "Nordic, nRF52840 product specification", 0),
        ),
        source="Arm, Cortex-M4 Technical Reference Manual: ARMv7E-M, SMLAD on two 16-bit lanes",
        peak=Peak(2, 4, "Arm, Cortex-M4 TRM, 3.3: SMLAD 1 cycle, a pipelined LDR 1 cycle"),
    ),
    Target(
        "cortex-m7",
        "low",
        WORD,
        4,
        features=frozenset({"dsp", "fpu"}),
        boards=(
            Board("STM32F746NG", 1 * MIB, 320 * KIB, "ST, STM32F746xG datasheet"),
            Board(
                "STM32H743ZI",
                2 * MIB,
                1 * MIB,
                "ST, STM32H743xI datasheet",
                ram_origin=0x24000000,
                ram_bank=512 * KIB,
            ),
        ),
        source="Arm, Cortex-M7 Technical Reference Manual: ARMv7E-M, dual issue",
        peak=Peak(2, 8, "Arm, Cortex-M7 TRM, 2.1 and 5: one MAC pipe, 64-bit memory interfaces"),
    ),
    Target(
        "cortex-m33",
        "low",
        WORD,
        4,
        features=frozenset({"dsp", "fpu"}),
        boards=(
            Board(
                "LPC55S69",
                640 * KIB,
                320 * KIB,
                "NXP, LPC55S6x datasheet",
                flash_origin=0,
                ram_bank=272 * KIB,
                boot="Its boot ROM wants a checksum of the vectors, which flashing tools add.",
            ),
            Board(
                "nRF5340 (application core)", 1 * MIB, 512 * KIB, "Nordic, nRF5340 product spec", 0
            ),
            Board(
                "STM32U575ZI",
                2 * MIB,
                784 * KIB,
                "ST, STM32U575xx datasheet",
                ram_bank=768 * KIB,
            ),
        ),
        source="Arm, Cortex-M33 Technical Reference Manual: ARMv8-M Mainline with DSP extension",
        peak=Peak(2, 4, "Arm, Cortex-M33 TRM, B2: SMLAD 1 cycle, a 32-bit data interface"),
    ),
    Target(
        "cortex-m55",
        "low",
        WORD,
        4,
        features=frozenset({"dsp", "fpu", "mve"}),
        boards=(
            Board(
                "Arm MPS3 AN547", 512 * KIB, 512 * KIB, "Arm, Application Note AN547: its TCMs", 0
            ),
            Board(
                "Alif Ensemble E7",
                5632 * KIB,
                13824 * KIB,
                "Alif, Ensemble E7 datasheet",
                0x80000000,
                0x02000000,
                4096 * KIB,
                boot="Its secure enclave starts what Alif's tools have packed.",
            ),
        ),
        source="Arm, Cortex-M55 Technical Reference Manual: ARMv8.1-M with Helium, 128-bit vectors",
        peak=Peak(8, 8, "Arm, Cortex-M55 datasheet: 8 MACs of 8 bits and 64 bits loaded a cycle"),
    ),
    Target(
        "x86-64-avx2",
        "moderate",
        {"int8": 32, "int16": 16, "float32": 8},
        8,
        features=frozenset({"avx2", "fma"}),
        source="Intel, 64 and IA-32 Architectures Software Developer's Manual, volume 1: 256 bits",
    ),
    Target(
        "x86-64-avx512",
        "moderate",
        {"int8": 64, "int16": 32, "float32": 16},
        16,
        features=frozenset({"avx2", "fma", "avx512f"}),
        source="Intel, 64 and IA-32 Architectures Software Developer's Manual, volume 1: 512 bits",
    ),
    Target(
        "aarch64-neon",
        "moderate",
        {"int8": 16, "int16": 8, "float32": 4},
        4,
        features=frozenset({"neon"}),
        source="Arm, Architecture Reference Manual for A-profile: 128-bit Advanced SIMD",
    ),
    Target(
        "gpu",
        "high",
        {},
        None,
        source="Yu et al., Scalpel, ISCA 2017: sparse weights lose on GPUs, smaller layers win",
    ),
)

TARGETS = {target.name: target for target in _TARGETS}

# What runs on every x86-64 chooses its kernels there; groups of 8 serve AVX2 and AVX-512.
ALIASES = {"x86-64": "x86-64-avx2"}


def find_target(name: str) -> Target:
    """The target of that name or alias; ValueError names those that exist."""
    name = ALIASES.get(name, name)
    if name not in TARGETS:
        raise ValueError(f"Unknown target {name!r}; expected one of {', '.join(TARGETS)}.")
    return TARGETS[name]
