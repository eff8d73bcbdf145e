# SPDX-License-Identifier: Apache-2.0
"""What the templates need to know about a target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import tvm

from bnncc.plan.budget import Goal

Popcount = Literal["vector32", "bytes", "words", "scalar", "none"]


class TargetFacts(Protocol):
    """The facts of `bnncc.targets.Target` that kernels use."""

    @property
    def kind(self) -> str:
        """ "llvm" or "c"."""
        ...

    @property
    def triple(self) -> str:
        """The LLVM triple; empty for "c"."""
        ...

    @property
    def mcpu(self) -> str:
        """The processor in LLVM's spelling; empty for "c"."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """LLVM features beyond those of `mcpu`, such as "+avx512vpopcntdq"."""
        ...

    @property
    def vector_bits(self) -> int:
        """Bits of a vector register."""
        ...

    @property
    def scalable_bits(self) -> int:
        """Bits that vectors of a length known at run time are expected to have; 0 where there are none."""
        ...

    @property
    def popcount(self) -> Popcount:
        """How bits are counted: in lanes of 32 bits or bytes, word by word, unknown, or by no instruction."""
        ...


C_FEATURES = ("+dsp", "+mve", "+v", "+zvbb")
"""LLVM's names of what C code has helpers or micro-kernels for: Arm's DSP extension, vectors of four words,
RISC-V's vectors, without and with counts of bits."""

LLVM_OPTIONS = ("-vectorize-loops:bool=0",)
"""LLVM 22's loop vectoriser takes `i % 4` for affine over more than four iterations and then reads beyond
arrays. Our templates write their vectors themselves and are no slower without it."""


ARCHITECTURE_OPTIONS = {"aarch64": ("-aarch64-enable-mcr:bool=0",)}
"""LLVM's machine combiner makes trees of chains of additions, which need more registers than there are."""

WIDE_COUNT_OPTIONS = ("-unroll-threshold-aggressive:uint=150",)
"""Where an instruction counts words' bits, a step of a reduction is so many instructions that LLVM's full
unrolling of short loops (threshold 300) costs up to half of a small network's code and saves no time: 0.988
to 1.003 of it over whole networks. With AVX2 it saves a tenth."""

WITHOUT_MASK_OF_SIGNS = "-avx512dq"
"""LLVM 22 turns VPMOVD2M and KMOV into VMOVMSKPS, which cannot name the registers ymm16 to ymm31, and reads
another one instead (llvm/llvm-project issue 191304). Without AVX512DQ it takes VPTESTMD, at the same cost."""


@dataclass(frozen=True)
class Isa:
    """A target as the templates see it.

    name: the field of kernel symbols ("v512p": bits of a vector and how bits are counted; "c"). lanes:
    float32 lanes of a vector, 1 where the code is scalar. bit_lanes: how many channels make one piece where
    packed bits are written, at least a whole byte. goal: what kernels are chosen for.
    """

    name: str
    kind: Literal["llvm", "c"]
    triple: str
    mcpu: str
    features: tuple[str, ...]
    vector_bits: int
    popcount: Popcount
    goal: Goal = field(default=None, repr=False)
    scalable_bits: int = field(default=0, repr=False)

    @staticmethod
    def of(target: TargetFacts) -> Isa:
        """The view of a target."""
        if target.kind == "c":
            features = tuple(feature for feature in target.features if feature in C_FEATURES)
            name = "c" + "".join(feature.removeprefix("+") for feature in features)
            return Isa(name, "c", "", "", features, 32, target.popcount)
        counting = {"vector32": "p", "bytes": "b", "words": "w", "scalar": "s", "none": "n"}[target.popcount]
        return Isa(
            f"v{target.vector_bits}{counting}",
            "llvm",
            target.triple,
            target.mcpu,
            tuple(target.features),
            target.vector_bits,
            target.popcount,
            scalable_bits=target.scalable_bits,
        )

    @property
    def is_scalar(self) -> bool:
        """Whether the code is plain loops over scalars (portable C)."""
        return self.kind == "c"

    @property
    def architecture(self) -> str:
        """The first word of the triple, such as "aarch64"; empty for portable C and the compiling machine."""
        return self.triple.partition("-")[0]

    @property
    def lanes(self) -> int:
        """float32 lanes of one vector."""
        return 1 if self.is_scalar else self.vector_bits // 32

    @property
    def word_lanes(self) -> int:
        """Lanes of the vectors of 32-bit words that C code may use (GNU's vector extension); 1 for none."""
        return 4 if "+mve" in self.features else 1

    @property
    def has_byte_dot(self) -> bool:
        """Whether an instruction adds the products of four bytes to a sum of 32 bits (AVX-512 VNNI)."""
        return "+avx512vnni" in self.features

    @property
    def chooses_lanes(self) -> bool:
        """Whether an instruction chooses float32 lanes by numbers in a vector (VPERMPS)."""
        return self.kind == "llvm" and self.architecture == "x86_64" and self.vector_bits >= 256

    @property
    def is_neon(self) -> bool:
        """Whether vectors are NEON's, of 64 or 32-bit Arm."""
        return self.kind == "llvm" and self.architecture in ("aarch64", "armv7") and self.vector_bits == 128

    @property
    def has_signed_dot(self) -> bool:
        """Whether an instruction adds the products of four signed bytes to a sum of 32 bits (SDOT)."""
        return self.is_neon and "+dotprod" in self.features

    @property
    def has_byte_pairs(self) -> bool:
        """Whether an instruction adds up the products of two bytes in 16 bits (PMADDUBSW)."""
        return self.kind == "llvm" and self.architecture == "x86_64" and self.popcount != "scalar"

    @property
    def adds_bytes(self) -> bool:
        """Whether one instruction adds up the bytes of a word (USADA8)."""
        return "+dsp" in self.features

    @property
    def bit_lanes(self) -> int:
        """Channels of one piece of a kernel that writes packed bits."""
        return 1 if self.is_scalar else max(8, self.lanes)

    def tvm_target(self) -> tvm.target.Target:
        """The target in TVM's terms."""
        if self.is_scalar:
            return tvm.target.Target("c")
        facts: dict = {"kind": "llvm", "mtriple": self.triple, "vector-width": self.vector_bits}
        facts["cl-opt"] = [*LLVM_OPTIONS, *ARCHITECTURE_OPTIONS.get(self.architecture, ())]
        if self.popcount == "vector32":
            facts["cl-opt"] += WIDE_COUNT_OPTIONS
        if self.mcpu:
            facts["mcpu"] = self.mcpu
        features = list(self.features)
        if self.vector_bits == 512:
            features.append(WITHOUT_MASK_OF_SIGNS)
        if features:
            facts["mattr"] = features
        return tvm.target.Target({key: value for key, value in facts.items() if value != ""})


PORTABLE = Isa("c", "c", "", "", (), 32, "scalar")
"""Portable C99: scalar code, a popcount of its own."""
