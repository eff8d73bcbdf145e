/* SPDX-License-Identifier: Apache-2.0 */
/* Counting differing bits with Arm's scalable vectors, whatever their length.

   A vector is as many bytes of a row as it holds, what is beyond the end zero on both sides. Four channels share the
   activations, P pixels the weights; each sum is a vector of bytes, which at the end, or after 31 counts of up to 8,
   is added up. The macros write the tile out, as vectors of unknown length cannot be in an array. */
#ifndef BNNCC_ARM_SVE_H
#define BNNCC_ARM_SVE_H

#include "arm_vectors.h"

/* M(pixel) for each of 1, 2 or 4 pixels. */
#define BNNCC_SVE_PIXELS_1(M) M(0)
#define BNNCC_SVE_PIXELS_2(M) M(0) M(1)
#define BNNCC_SVE_PIXELS_4(M) M(0) M(1) M(2) M(3)
#define BNNCC_SVE_START(p) \
    svuint8_t count##p##0 = svdup_n_u8(0), count##p##1 = count##p##0, count##p##2 = count##p##0, \
              count##p##3 = count##p##0;
#define BNNCC_SVE_COUNT_ONE(p, n) \
    count##p##n = svadd_u8_x(all, count##p##n, svcnt_u8_x(all, sveor_u8_x(all, x, w##n)));
#define BNNCC_SVE_COUNT(p) \
    { \
        const svuint8_t x = svld1_u8(some, row + (p) * stride + at); \
        BNNCC_SVE_COUNT_ONE(p, 0) BNNCC_SVE_COUNT_ONE(p, 1) BNNCC_SVE_COUNT_ONE(p, 2) BNNCC_SVE_COUNT_ONE(p, 3) \
    }
#define BNNCC_SVE_STORE_ONE(p, n) \
    if (left >= (n)) \
        sum[(p) * pitch + (n)] += (int32_t)svaddv_u8(all, count##p##n);
#define BNNCC_SVE_STORE(p) \
    BNNCC_SVE_STORE_ONE(p, 0) BNNCC_SVE_STORE_ONE(p, 1) BNNCC_SVE_STORE_ONE(p, 2) BNNCC_SVE_STORE_ONE(p, 3)

/* sums[pitch * p + channel] += how many bits differ between row p of the activations and the channel's row of weights.

   rows: P rows of `bytes` bytes, `stride` bytes from one to the next. weight: for each channel a row of `bytes`
   bytes, `next` bytes from one to the next. Nothing needs to be aligned. */
#define BNNCC_SVE_FUNCTION(P)                                                                          \
    BNNCC_MICRO_KERNEL void bnncc_arm_sve_##P(const void *rows, size_t stride, size_t bytes,           \
        const void *weight, size_t next, size_t channels, int32_t *sums, size_t pitch)                 \
    {                                                                                                  \
        const uint8_t *row = rows;                                                                     \
        const svbool_t all = svptrue_b8();                                                             \
        uint64_t channel, start, end, at;                                                              \
        (void)stride;                                                                                  \
        (void)pitch;                                                                                   \
        for (channel = 0; channel < channels; channel += 4) {                                          \
            const size_t left = channels - channel - 1;                                                \
            const uint8_t *weight0 = (const uint8_t *)weight + channel * next;                         \
            const uint8_t *weight1 = weight0 + (left > 0 ? next : 0);                                  \
            const uint8_t *weight2 = weight1 + (left > 1 ? next : 0);                                  \
            const uint8_t *weight3 = weight2 + (left > 2 ? next : 0);                                  \
            int32_t *sum = sums + channel;                                                             \
            for (start = 0; start < bytes; start = end) {                                              \
                BNNCC_SVE_PIXELS_##P(BNNCC_SVE_START)                                                  \
                end = bytes - start < 31 * svcntb() ? bytes : start + 31 * svcntb();                   \
                for (at = start; at < end; at += svcntb()) {                                           \
                    const svbool_t some = svwhilelt_b8_u64(at, end);                                   \
                    const svuint8_t w0 = svld1_u8(some, weight0 + at), w1 = svld1_u8(some, weight1 + at); \
                    const svuint8_t w2 = svld1_u8(some, weight2 + at), w3 = svld1_u8(some, weight3 + at); \
                    BNNCC_SVE_PIXELS_##P(BNNCC_SVE_COUNT)                                              \
                }                                                                                      \
                BNNCC_SVE_PIXELS_##P(BNNCC_SVE_STORE)                                                  \
            }                                                                                          \
        }                                                                                              \
    }

BNNCC_SVE_FUNCTION(1)
BNNCC_SVE_FUNCTION(2)
BNNCC_SVE_FUNCTION(4)

#endif /* BNNCC_ARM_SVE_H */
