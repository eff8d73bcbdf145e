# SPDX-License-Identifier: Apache-2.0
"""What the C text of kernels calls: a count of bits, instructions that C has no operator for, vectors of
words."""

from __future__ import annotations

POPCOUNT = "bnncc_popcount32"

ADD_BYTES = "bnncc_add_bytes"
"""(word, number): the number plus the four bytes of the word."""

COUNT_ZEROS = "bnncc_ctz32"
"""(word): the number of its lowest bit that is set; it is not 0."""

BROADCAST = "bnncc_broadcast"
"""(word): the word in every lane of a vector."""

VECTOR = "bnncc_u32x4"
"""The type of vectors of four words."""

SOURCES = {
    POPCOUNT: f"""\
#ifndef BNNCC_POPCOUNT32
#define BNNCC_POPCOUNT32
/* The number of bits set in v. */
static uint32_t {POPCOUNT}(uint32_t v) {{
#if defined(__GNUC__) && defined(__riscv_zbb)
  return (uint32_t)__builtin_popcount(v);
#else
  v = v - ((v >> 1) & UINT32_C(0x55555555));
  v = (v & UINT32_C(0x33333333)) + ((v >> 2) & UINT32_C(0x33333333));
  v = (v + (v >> 4)) & UINT32_C(0x0f0f0f0f);
  return (v * UINT32_C(0x01010101)) >> 24;
#endif
}}
#endif
""",
    ADD_BYTES: f"""\
#ifndef BNNCC_ADD_BYTES
#define BNNCC_ADD_BYTES
/* a and the four bytes of v. */
static inline uint32_t {ADD_BYTES}(uint32_t v, uint32_t a) {{
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP)
  __asm__("usada8 %0, %1, %2, %0" : "+r"(a) : "r"(v), "r"(0));
  return a;
#else
  v = (v & UINT32_C(0x00ff00ff)) + ((v >> 8) & UINT32_C(0x00ff00ff));
  return a + ((v + (v >> 16)) & UINT32_C(0xffff));
#endif
}}
#endif
""",
    COUNT_ZEROS: f"""\
#ifndef BNNCC_CTZ32
#define BNNCC_CTZ32
/* The number of the lowest bit that is set in v, which is not 0. */
static inline uint32_t {COUNT_ZEROS}(uint32_t v) {{
#if defined(__GNUC__)
  return (uint32_t)__builtin_ctz(v);
#else
  uint32_t bit = 0;
  while ((v & 1u) == 0u) {{
    v >>= 1;
    ++bit;
  }}
  return bit;
#endif
}}
#endif
""",
    VECTOR: f"""\
#ifndef BNNCC_U32X4
#define BNNCC_U32X4
/* Four words; an extension of C that GCC, Clang and compilers made of them have. */
typedef uint32_t {VECTOR} __attribute__((vector_size(16), aligned(4), may_alias));

static inline {VECTOR} {BROADCAST}(uint32_t v) {{
  return ({VECTOR}){{v, v, v, v}};
}}
#endif
""",
}
"""C text that defines each."""


def helpers(text: str) -> list[str]:
    """The definitions of what a text uses."""
    return [source for name, source in SOURCES.items() if name in text]
