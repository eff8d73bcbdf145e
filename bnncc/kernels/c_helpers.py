# SPDX-License-Identifier: Apache-2.0
"""What the C text of kernels calls: a count of bits, instructions and types that C has not, vectors of
words."""

from __future__ import annotations

POPCOUNT = "bnncc_popcount32"

ADD_BYTES = "bnncc_add_bytes"
"""(word, number): the number plus the four bytes of the word."""

COUNT_ZEROS = "bnncc_ctz32"
"""(word): the number of its lowest bit that is set; it is not 0."""

ADD_ROWS = "bnncc_add_rows"
"""(events, count, weight, sums): sixteen int32 sums of the rows of int8 weights that the events number, in
the order that ROW_ORDER tells."""

ROW_ORDER = (0, 2, 1, 3)
"""Which of four outputs each byte of a word of weights belongs to, for ADD_ROWS."""

ADD_TO_SUMS = "bnncc_add_to_sums"
"""(sums, weight, words): adds so many words of four int8 weights, in the order that ROW_ORDER tells, to int16
sums in memory."""

BROADCAST = "bnncc_broadcast"
"""(word): the word in every lane of a vector."""

FOUR_LANES = "bnncc_four_lanes"
"""(): a statement that asks for the loop after it to be done four turns at a time; it becomes a macro."""

FOUR_LANES_MACRO = "BNNCC_FOUR_LANES"
"""What it becomes in C."""

FROM_HALF = "bnncc_from_half"
"""(bits): the number that has these bits in half precision."""

TO_HALF = "bnncc_to_half"
"""(number): the bits of the nearest one in half precision; of two as near, the even one."""

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
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && __ARM_ARCH >= 6
  __asm__("usada8 %0, %1, %2, %0" : "+r"(a) : "r"(v), "r"(0));
  return a;
#else
  v = (v & UINT32_C(0x00ff00ff)) + ((v >> 8) & UINT32_C(0x00ff00ff));
  return a + ((v + (v >> 16)) & UINT32_C(0xffff));
#endif
}}
#endif
""",
    ADD_ROWS: f"""\
#ifndef BNNCC_ADD_ROWS
#define BNNCC_ADD_ROWS
/* Adds bytes 0 and 2 of w, then bytes 1 and 3, to two pairs of int16 sums. */
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
#define BNNCC_ADD_ROW()                                                                           \\
  __asm__ volatile("ldrh %[row], [%[event]], #2\\n\\t"                                            \\
                   "add %[row], %[weight], %[row], lsl #4\\n\\t"                                  \\
                   "ldrd %[a], %[b], [%[row]]\\n\\t"                                              \\
                   "sxtab16 %[p0], %[p0], %[a]\\n\\t"                                             \\
                   "sxtab16 %[p1], %[p1], %[a], ror #8\\n\\t"                                     \\
                   "sxtab16 %[p2], %[p2], %[b]\\n\\t"                                             \\
                   "sxtab16 %[p3], %[p3], %[b], ror #8\\n\\t"                                     \\
                   "ldrd %[a], %[b], [%[row], #8]\\n\\t"                                          \\
                   "sxtab16 %[p4], %[p4], %[a]\\n\\t"                                             \\
                   "sxtab16 %[p5], %[p5], %[a], ror #8\\n\\t"                                     \\
                   "sxtab16 %[p6], %[p6], %[b]\\n\\t"                                             \\
                   "sxtab16 %[p7], %[p7], %[b], ror #8"                                           \\
                   : [p0] "+r"(p0), [p1] "+r"(p1), [p2] "+r"(p2), [p3] "+r"(p3), [p4] "+r"(p4),   \\
                     [p5] "+r"(p5), [p6] "+r"(p6), [p7] "+r"(p7), [event] "+r"(events),           \\
                     [row] "=&r"(row), [a] "=&r"(a), [b] "=&r"(b)                                 \\
                   : [weight] "r"(weight)                                                         \\
                   : "memory")
#else
static inline uint32_t bnncc_add_pair(uint32_t pair, uint32_t w) {{
  const uint32_t low = pair + (uint32_t)(int32_t)(int8_t)(w & 0xffu);
  const uint32_t high = (pair >> 16) + (uint32_t)(int32_t)(int8_t)(w >> 16 & 0xffu);
  return (low & UINT32_C(0xffff)) | (high << 16);
}}
#define BNNCC_ADD_WORD(even, odd, w)                                                              \\
  (even = bnncc_add_pair(even, w), odd = bnncc_add_pair(odd, (w) >> 8))
#define BNNCC_ADD_ROW()                                                                           \\
  (row = weight + 4u * *events++, a = row[0], b = row[1], BNNCC_ADD_WORD(p0, p1, a),              \\
   BNNCC_ADD_WORD(p2, p3, b), a = row[2], b = row[3], BNNCC_ADD_WORD(p4, p5, a),                  \\
   BNNCC_ADD_WORD(p6, p7, b))
#endif
#define BNNCC_ADD_SUMS(at, pair)                                                                  \\
  (sums[at] += (int16_t)(pair & 0xffffu), sums[at + 1] += (int32_t)pair >> 16)
/* sums[0..15]: the sums of the rows of weights that the events number. Pairs of int16 hold 255 of them. */
static void {ADD_ROWS}(const uint16_t *events, int32_t count, const uint32_t *weight, int32_t *sums) {{
  const uint16_t *const end = events + count;
  const uint32_t *row;
  uint32_t a, b;
  for (int32_t i = 0; i < 16; ++i) {{
    sums[i] = 0;
  }}
  while (events != end) {{
    const uint16_t *const stop = end - events > 255 ? events + 255 : end;
    uint32_t p0 = 0, p1 = 0, p2 = 0, p3 = 0, p4 = 0, p5 = 0, p6 = 0, p7 = 0;
    for (int32_t turns = (int32_t)(stop - events) / 8; turns > 0; --turns) {{
      BNNCC_ADD_ROW();
      BNNCC_ADD_ROW();
      BNNCC_ADD_ROW();
      BNNCC_ADD_ROW();
      BNNCC_ADD_ROW();
      BNNCC_ADD_ROW();
      BNNCC_ADD_ROW();
      BNNCC_ADD_ROW();
    }}
    while (events != stop) {{
      BNNCC_ADD_ROW();
    }}
    BNNCC_ADD_SUMS(0, p0);
    BNNCC_ADD_SUMS(2, p1);
    BNNCC_ADD_SUMS(4, p2);
    BNNCC_ADD_SUMS(6, p3);
    BNNCC_ADD_SUMS(8, p4);
    BNNCC_ADD_SUMS(10, p5);
    BNNCC_ADD_SUMS(12, p6);
    BNNCC_ADD_SUMS(14, p7);
  }}
}}
#endif
""",
    ADD_TO_SUMS: f"""\
#ifndef BNNCC_ADD_TO_SUMS
#define BNNCC_ADD_TO_SUMS
/* sums[0..4 words - 1] += the weights: bytes 0, 2, 1, 3 of each word. */
static inline void {ADD_TO_SUMS}(int16_t *sums, const uint32_t *weight, int32_t words) {{
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && !defined(__ARM_BIG_ENDIAN)
  const uint32_t *const end = weight + words;
  uint32_t a, b, p, q, r, s;
  if (words % 2 != 0) {{
    __asm__ volatile("ldr %[a], [%[weight]], #4\\n\\t"
                     "ldrd %[p], %[q], [%[sums]]\\n\\t"
                     "sxtab16 %[p], %[p], %[a]\\n\\t"
                     "sxtab16 %[q], %[q], %[a], ror #8\\n\\t"
                     "strd %[p], %[q], [%[sums]], #8"
                     : [sums] "+&r"(sums), [weight] "+&r"(weight), [a] "=&r"(a), [p] "=&r"(p), [q] "=&r"(q)
                     :
                     : "memory");
  }}
  while (weight != end) {{
    __asm__ volatile("ldrd %[a], %[b], [%[weight]], #8\\n\\t"
                     "ldrd %[p], %[q], [%[sums]]\\n\\t"
                     "ldrd %[r], %[s], [%[sums], #8]\\n\\t"
                     "sxtab16 %[p], %[p], %[a]\\n\\t"
                     "sxtab16 %[q], %[q], %[a], ror #8\\n\\t"
                     "sxtab16 %[r], %[r], %[b]\\n\\t"
                     "sxtab16 %[s], %[s], %[b], ror #8\\n\\t"
                     "strd %[r], %[s], [%[sums], #8]\\n\\t"
                     "strd %[p], %[q], [%[sums]], #16"
                     : [sums] "+&r"(sums), [weight] "+&r"(weight), [a] "=&r"(a), [b] "=&r"(b), [p] "=&r"(p),
                       [q] "=&r"(q), [r] "=&r"(r), [s] "=&r"(s)
                     :
                     : "memory");
  }}
#else
  for (int32_t i = 0; i < words; ++i, sums += 4) {{
    sums[0] = (int16_t)(sums[0] + (int8_t)(weight[i] & 0xffu));
    sums[1] = (int16_t)(sums[1] + (int8_t)(weight[i] >> 16 & 0xffu));
    sums[2] = (int16_t)(sums[2] + (int8_t)(weight[i] >> 8 & 0xffu));
    sums[3] = (int16_t)(sums[3] + (int8_t)(weight[i] >> 24));
  }}
#endif
}}
#endif
""",
    FROM_HALF: f"""\
#ifndef BNNCC_FROM_HALF
#define BNNCC_FROM_HALF
/* The number that has these bits in half precision. */
static inline float {FROM_HALF}(uint16_t bits) {{
  union {{
    uint32_t bits;
    float number;
  }} result;
  /* The exponent counts from 15 there, here from 127: the product is exact, and normal where bits are not. */
  result.bits = (uint32_t)(bits & 0x7fffu) << 13;
  result.number *= 5.19229686e+33f; /* 2^112 */
  if ((bits & 0x7c00u) == 0x7c00u) {{
    result.bits |= UINT32_C(0x7f800000);
  }}
  result.bits |= (uint32_t)(bits & 0x8000u) << 16;
  return result.number;
}}
#endif
""",
    TO_HALF: f"""\
#ifndef BNNCC_TO_HALF
#define BNNCC_TO_HALF
/* The bits of the nearest number in half precision; of two as near, those of the even one. */
static inline uint16_t {TO_HALF}(float number) {{
  union {{
    float number;
    uint32_t bits;
  }} size;
  uint32_t sign, half;
  size.number = number;
  sign = (size.bits >> 16) & 0x8000u;
  size.bits &= UINT32_C(0x7fffffff);
  if (size.bits > UINT32_C(0x7f800000)) {{
    half = 0x7e00u; /* not a number */
  }} else if (size.bits >= UINT32_C(0x477ff000)) {{
    half = 0x7c00u; /* rounds to infinity */
  }} else if (size.bits >= UINT32_C(0x38800000)) {{
    half = (size.bits - UINT32_C(0x38000000) + 0xfffu + ((size.bits >> 13) & 1u)) >> 13;
  }} else {{
    size.number += 0.5f; /* whose last bit is worth that of the small numbers */
    half = size.bits - UINT32_C(0x3f000000);
  }}
  return (uint16_t)(sign | half);
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
    FOUR_LANES_MACRO: f"""\
#ifndef {FOUR_LANES_MACRO}
/* Four turns of a loop at a time: clang takes vectors although divisions go one by one, if it is told to. */
#if defined(__clang__) && defined(__ARM_FEATURE_MVE)
#pragma clang diagnostic ignored "-Wpass-failed"
#define {FOUR_LANES_MACRO} _Pragma("clang loop vectorize_width(4)")
#else
#define {FOUR_LANES_MACRO}
#endif
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
