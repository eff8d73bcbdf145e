/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of bytes on cores with Arm's DSP extension, whose SMLAD multiplies two pairs of halves of words and adds both
   products to a sum.

   Activations are widened to 16 bits once for all channels. Weights are not: a half 256 a + b holds those of two
   channels. SMLAD with halves as they are gives 256 A + B of the sums A and B, SXTB16 leaves b alone, so that SMLAD
   gives B, and what remains is A: one instruction unpacks four weights. A must fit 24 bits, so it is taken out after
   64 steps; a must not be -128, so that every half fits 16.

   A step is four bytes of a window: two words of activations, of bytes 0 and 2, then 1 and 3, and two words of weights
   in the same order for each of two pairs of channels. Where some a is -128, the words are instead the four weights of
   each channel as they are, and one instruction unpacks two. */
#ifndef BNNCC_BYTE_PRODUCTS_H
#define BNNCC_BYTE_PRODUCTS_H

#include <stdint.h>

#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && !defined(__ARM_BIG_ENDIAN)
#define BNNCC_HAS_SMLAD 1
#endif

/* Not every network calls every function. */
#if defined(__GNUC__)
#define BNNCC_BYTE_KERNEL __attribute__((unused)) static
#else
#define BNNCC_BYTE_KERNEL static
#endif

/* The sum and the products of the halves of x and w. */
static inline uint32_t bnncc_smlad(uint32_t x, uint32_t w, uint32_t sum)
{
#if defined(BNNCC_HAS_SMLAD)
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(w));
    return sum;
#else
    const int32_t low = (int16_t)(x & 0xffffu) * (int16_t)(w & 0xffffu);
    const int32_t high = (int16_t)(x >> 16) * (int16_t)(w >> 16);
    return sum + (uint32_t)low + (uint32_t)high;
#endif
}

/* Bytes 0 and 2 as signed halves. */
static inline uint32_t bnncc_sxtb16(uint32_t w)
{
#if defined(BNNCC_HAS_SMLAD)
    __asm__("sxtb16 %0, %1" : "=r"(w) : "r"(w));
    return w;
#else
    const uint32_t low = (uint32_t)(int8_t)(w & 0xffu), high = (uint32_t)(int8_t)(w >> 16 & 0xffu);
    return (low & UINT32_C(0xffff)) | high << 16;
#endif
}

/* Bytes 1 and 3 as signed halves. */
static inline uint32_t bnncc_sxtb16_odd(uint32_t w)
{
#if defined(BNNCC_HAS_SMLAD)
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(w) : "r"(w));
    return w;
#else
    return bnncc_sxtb16(w >> 8);
#endif
}

/* Bytes 0 and 2 as unsigned halves. */
static inline uint32_t bnncc_uxtb16(uint32_t x)
{
    return x & UINT32_C(0x00ff00ff);
}

/* Four bytes anywhere. */
static inline uint32_t bnncc_byte_word(const uint8_t *from)
{
#if defined(BNNCC_HAS_SMLAD)
    typedef struct {
        uint32_t word;
    } __attribute__((packed, may_alias)) anywhere;
    return ((const anywhere *)from)->word;
#else
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
#endif
}

/* sums[c] += the product of byte c of x, unsigned, and byte c of w, signed: a tap of a depthwise layer. */
BNNCC_BYTE_KERNEL inline void bnncc_byte_tap(int32_t *sums, const uint8_t *from, uint32_t w)
{
    const uint32_t x = bnncc_byte_word(from);
#if defined(BNNCC_HAS_SMLAD)
    uint32_t p, q;
    __asm__("uxtb16 %[p], %[x]\n\t"
            "sxtb16 %[q], %[w]\n\t"
            "smlabb %[a], %[p], %[q], %[a]\n\t"
            "smlatt %[c], %[p], %[q], %[c]\n\t"
            "uxtb16 %[p], %[x], ror #8\n\t"
            "sxtb16 %[q], %[w], ror #8\n\t"
            "smlabb %[b], %[p], %[q], %[b]\n\t"
            "smlatt %[d], %[p], %[q], %[d]"
            : [a] "+r"(sums[0]), [b] "+r"(sums[1]), [c] "+r"(sums[2]), [d] "+r"(sums[3]), [p] "=&r"(p), [q] "=&r"(q)
            : [x] "r"(x), [w] "r"(w));
#else
    int32_t c;
    for (c = 0; c < 4; ++c)
        sums[c] += (int32_t)(x >> (8 * c) & 0xffu) * (int8_t)(w >> (8 * c) & 0xffu);
#endif
}

/* Of a pair of channels: 256 A + B, and B. */
typedef struct {
    uint32_t both, second;
} bnncc_byte_sums;

static inline void bnncc_byte_add(bnncc_byte_sums *sums, const uint32_t *x, uint32_t w0, uint32_t w1)
{
    const uint32_t x0 = x[0], x1 = x[1];
    sums->both = bnncc_smlad(x1, w1, bnncc_smlad(x0, w0, sums->both));
    sums->second = bnncc_smlad(x1, bnncc_sxtb16(w1), bnncc_smlad(x0, bnncc_sxtb16(w0), sums->second));
}

static inline void bnncc_byte_finish(int32_t *to, bnncc_byte_sums sums)
{
    to[0] += (int32_t)(sums.both - sums.second) >> 8;
    to[1] += (int32_t)sums.second;
}

/* The same of the weights of each channel as they are: A in the place of 256 A + B. */
static inline void bnncc_byte_add_apart(bnncc_byte_sums *sums, const uint32_t *x, uint32_t w0, uint32_t w1)
{
    const uint32_t x0 = x[0], x1 = x[1];
    sums->both = bnncc_smlad(x1, bnncc_sxtb16_odd(w0), bnncc_smlad(x0, bnncc_sxtb16(w0), sums->both));
    sums->second = bnncc_smlad(x1, bnncc_sxtb16_odd(w1), bnncc_smlad(x0, bnncc_sxtb16(w1), sums->second));
}

static inline void bnncc_byte_finish_apart(int32_t *to, bnncc_byte_sums sums)
{
    to[0] += (int32_t)sums.both;
    to[1] += (int32_t)sums.second;
}

/* A step of one row and two pairs of channels; of two rows and one pair. */
#define BNNCC_BYTE_STEP_1(APART, sums, x, w)                        \
    do {                                                            \
        bnncc_byte_add##APART(&(sums)[0], x, (w)[0], (w)[1]);       \
        bnncc_byte_add##APART(&(sums)[1], x, (w)[2], (w)[3]);       \
    } while (0)
#define BNNCC_BYTE_STEP_2(APART, sums, x, w)                        \
    do {                                                            \
        const uint32_t w0 = (w)[0], w1 = (w)[1];                    \
        bnncc_byte_add##APART(&(sums)[0], x, w0, w1);               \
        bnncc_byte_add##APART(&(sums)[1], (x) + 2, w0, w1);         \
    } while (0)

/* Adds all steps to to[0], to[1], other[0], other[1]; the rows of x take turns. */
#define BNNCC_BYTE_SUM(ROWS, APART, to, other)                       \
    do {                                                             \
        const uint32_t *x = rows, *w = weight, *const stop = rows + 2 * ROWS * steps; \
        bnncc_byte_sums turn[2] = {{0, 0}, {0, 0}};                  \
        if (steps % 2 != 0) {                                        \
            BNNCC_BYTE_STEP_##ROWS(APART, turn, x, w);               \
            x += 2 * ROWS, w += 4;                                   \
        }                                                            \
        for (; x != stop; x += 4 * ROWS, w += 8) {                   \
            BNNCC_BYTE_STEP_##ROWS(APART, turn, x, w);               \
            BNNCC_BYTE_STEP_##ROWS(APART, turn, x + 2 * ROWS, w + 4); \
        }                                                            \
        bnncc_byte_finish##APART(to, turn[0]);                       \
        bnncc_byte_finish##APART(other, turn[1]);                    \
    } while (0)

/* bnncc_byte_products_1: sums[c] += the products of a row and the weights of each channel, in so many blocks of four,
   `next` words from each other; steps: at most 64, 4 * 64 * 255 * 127 < 2^23. bnncc_byte_products_2: the same of two
   rows; the sums of the second are `pitch` behind. bnncc_byte_products_apart_1 and _2: of weights of each channel as
   they are, for any number of steps. */
#define BNNCC_BYTE_FUNCTIONS(APART)                                                                                   \
    BNNCC_BYTE_KERNEL void bnncc_byte_products##APART##_1(const uint32_t *rows, const uint32_t *weight, int32_t steps, \
                                                          int32_t next, int32_t blocks, int32_t *sums, int32_t pitch) \
    {                                                                                                                 \
        (void)pitch;                                                                                                  \
        for (; blocks > 0; --blocks, sums += 4, weight += next)                                                       \
            BNNCC_BYTE_SUM(1, APART, sums, sums + 2);                                                                 \
    }                                                                                                                 \
    BNNCC_BYTE_KERNEL void bnncc_byte_products##APART##_2(const uint32_t *rows, const uint32_t *weight, int32_t steps, \
                                                          int32_t next, int32_t blocks, int32_t *sums, int32_t pitch) \
    {                                                                                                                 \
        int32_t pairs = 2 * blocks;                                                                                   \
        for (; pairs > 0; --pairs, sums += 2, weight += pairs % 2 != 0 ? 2 : next - 2)                                \
            BNNCC_BYTE_SUM(2, APART, sums, sums + pitch);                                                             \
    }

BNNCC_BYTE_FUNCTIONS()
BNNCC_BYTE_FUNCTIONS(_apart)

/* Bytes as halves, a step of four of them every `pitch` words; zeros complete the last one. */
BNNCC_BYTE_KERNEL void bnncc_byte_widen(uint32_t *to, int32_t pitch, const void *from, int32_t bytes)
{
    const uint8_t *x = from;
    for (; bytes > 3; bytes -= 4, x += 4, to += pitch) {
        const uint32_t word = bnncc_byte_word(x);
        to[0] = bnncc_uxtb16(word), to[1] = bnncc_uxtb16(word >> 8);
    }
    if (bytes > 0) {
        to[0] = x[0] | (bytes > 2 ? (uint32_t)x[2] << 16 : 0);
        to[1] = bytes > 1 ? x[1] : 0;
    }
}

/* Bytes at byte `at` of a row. */
BNNCC_BYTE_KERNEL void bnncc_byte_join(void *row, int32_t at, const uint8_t *from, int32_t bytes)
{
    uint8_t *to = (uint8_t *)row + at;
#if defined(BNNCC_HAS_SMLAD)
    for (; bytes > 3; bytes -= 4) {
        uint32_t word;
        __asm__ volatile("ldr %0, [%1], #4\n\tstr %0, [%2], #4" : "=&r"(word), "+r"(from), "+r"(to) : : "memory");
    }
#endif
    for (; bytes > 0; --bytes)
        *to++ = *from++;
}

#endif /* BNNCC_BYTE_PRODUCTS_H */
