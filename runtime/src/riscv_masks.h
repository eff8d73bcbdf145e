/* SPDX-License-Identifier: Apache-2.0 */
/* Counting differing bits with RISC-V's vectors, whatever their length, without Zvbb.

   A vector register is taken for a mask, of VLEN bits: vmxor.mm compares VLEN weights with as many activations, and
   vcpop.m counts where they differ. Up to five registers of activations of each pixel stay where they are while all
   channels pass by; longer rows are counted in several turns, whose sums are added in memory.

   The macros write the functions out, as vectors whose length the compiler does not know cannot be in an array. */
#ifndef BNNCC_RISCV_MASKS_H
#define BNNCC_RISCV_MASKS_H

#include "riscv_vectors.h"

/* M(pixel, register, bits) for each of 1 to 5 registers, of which the last holds `last` bits, the others `full`. */
#define BNNCC_MASKS_EACH_1(M, p) M(p, 0, last)
#define BNNCC_MASKS_EACH_2(M, p) M(p, 0, full) M(p, 1, last)
#define BNNCC_MASKS_EACH_3(M, p) M(p, 0, full) M(p, 1, full) M(p, 2, last)
#define BNNCC_MASKS_EACH_4(M, p) M(p, 0, full) M(p, 1, full) M(p, 2, full) M(p, 3, last)
#define BNNCC_MASKS_EACH_5(M, p) M(p, 0, full) M(p, 1, full) M(p, 2, full) M(p, 3, full) M(p, 4, last)

/* M(pixel) for each of 1, 2 or 4 pixels. */
#define BNNCC_MASKS_PIXELS_1(M) M(0)
#define BNNCC_MASKS_PIXELS_2(M) M(0) M(1)
#define BNNCC_MASKS_PIXELS_4(M) M(0) M(1) M(2) M(3)

/* All registers of all pixels. */
#define BNNCC_MASKS_ROW(p, k, bits) \
    const vbool1_t x##p##_##k = __riscv_vlm_v_b1(rows + (p) * stride + (k) * (full / 8), bits);
#define BNNCC_MASKS_LOAD_1(EACH) EACH(BNNCC_MASKS_ROW, 0)
#define BNNCC_MASKS_LOAD_2(EACH) BNNCC_MASKS_LOAD_1(EACH) EACH(BNNCC_MASKS_ROW, 1)
#define BNNCC_MASKS_LOAD_4(EACH) BNNCC_MASKS_LOAD_2(EACH) EACH(BNNCC_MASKS_ROW, 2) EACH(BNNCC_MASKS_ROW, 3)

/* One register of a channel's weights against that of every pixel. */
#define BNNCC_MASKS_WEIGHT(k, bits) const vbool1_t w = __riscv_vlm_v_b1(weight + (k) * (full / 8), bits);
#define BNNCC_MASKS_COUNT(p, k, bits) \
    sum##p += (int32_t)__riscv_vcpop_m_b1(__riscv_vmxor_mm_b1(x##p##_##k, w, bits), bits);
#define BNNCC_MASKS_COUNT_2(k, bits) BNNCC_MASKS_COUNT(0, k, bits) BNNCC_MASKS_COUNT(1, k, bits)
#define BNNCC_MASKS_COUNT_4(k, bits) \
    BNNCC_MASKS_COUNT_2(k, bits) BNNCC_MASKS_COUNT(2, k, bits) BNNCC_MASKS_COUNT(3, k, bits)
#define BNNCC_MASKS_STEP_1(p, k, bits) { BNNCC_MASKS_WEIGHT(k, bits) BNNCC_MASKS_COUNT(0, k, bits) }
#define BNNCC_MASKS_STEP_2(p, k, bits) { BNNCC_MASKS_WEIGHT(k, bits) BNNCC_MASKS_COUNT_2(k, bits) }
#define BNNCC_MASKS_STEP_4(p, k, bits) { BNNCC_MASKS_WEIGHT(k, bits) BNNCC_MASKS_COUNT_4(k, bits) }

#define BNNCC_MASKS_START(p) int32_t sum##p = sums[p];
#define BNNCC_MASKS_STORE(p) sums[p] = sum##p;

/* One turn: R registers of each of P pixels. */
#define BNNCC_MASKS_TURN(P, R)                                                                         \
    BNNCC_MICRO_KERNEL void bnncc_riscv_masks_turn_##P##_##R(const uint8_t *rows, size_t stride,       \
        const uint8_t *weight, size_t next, size_t channels, size_t full, size_t last, int32_t *sums, size_t pitch) \
    {                                                                                                  \
        size_t channel;                                                                                \
        BNNCC_MASKS_LOAD_##P(BNNCC_MASKS_EACH_##R)                                                     \
        (void)stride;                                                                                  \
        (void)full;                                                                                    \
        for (channel = 0; channel < channels; channel++, weight += next, sums += pitch) {              \
            BNNCC_MASKS_PIXELS_##P(BNNCC_MASKS_START)                                                  \
            BNNCC_MASKS_EACH_##R(BNNCC_MASKS_STEP_##P, 0)                                              \
            BNNCC_MASKS_PIXELS_##P(BNNCC_MASKS_STORE)                                                  \
        }                                                                                              \
    }

/* sums[pitch * channel + p] += how many bits differ between row p of the activations and the channel's row of weights.

   rows: P rows of `bytes` bytes, `stride` bytes from one to the next. weight: for each channel a row of
   `bytes` bytes, `next` bytes from one to the next. Nothing needs to be aligned. */
#define BNNCC_MASKS_FUNCTION(P)                                                                        \
    BNNCC_MASKS_TURN(P, 1)                                                                             \
    BNNCC_MASKS_TURN(P, 2)                                                                             \
    BNNCC_MASKS_TURN(P, 3)                                                                             \
    BNNCC_MASKS_TURN(P, 4)                                                                             \
    BNNCC_MASKS_TURN(P, 5)                                                                             \
    BNNCC_MICRO_KERNEL void bnncc_riscv_masks_##P(const void *rows, size_t stride, size_t bytes,       \
        const void *weight, size_t next, size_t channels, int32_t *sums, size_t pitch)                 \
    {                                                                                                  \
        const uint8_t *row = rows, *channel_0 = weight;                                                \
        const size_t full = __riscv_vsetvlmax_e8m8();                                                  \
        size_t bits = 8 * bytes, left = (bits + full - 1) / full, turns = (left + 4) / 5;              \
        for (; turns; turns--) {                                                                       \
            const size_t now = (left + turns - 1) / turns;                                             \
            const size_t counted = now * full < bits ? now * full : bits;                              \
            const size_t last = counted - (now - 1) * full;                                            \
            switch (now) {                                                                             \
            case 1:                                                                                    \
                bnncc_riscv_masks_turn_##P##_1(row, stride, channel_0, next, channels, full, last, sums, pitch); \
                break;                                                                                 \
            case 2:                                                                                    \
                bnncc_riscv_masks_turn_##P##_2(row, stride, channel_0, next, channels, full, last, sums, pitch); \
                break;                                                                                 \
            case 3:                                                                                    \
                bnncc_riscv_masks_turn_##P##_3(row, stride, channel_0, next, channels, full, last, sums, pitch); \
                break;                                                                                 \
            case 4:                                                                                    \
                bnncc_riscv_masks_turn_##P##_4(row, stride, channel_0, next, channels, full, last, sums, pitch); \
                break;                                                                                 \
            default:                                                                                   \
                bnncc_riscv_masks_turn_##P##_5(row, stride, channel_0, next, channels, full, last, sums, pitch); \
            }                                                                                          \
            row += counted / 8;                                                                        \
            channel_0 += counted / 8;                                                                  \
            left -= now;                                                                               \
            bits -= counted;                                                                           \
        }                                                                                              \
    }

BNNCC_MASKS_FUNCTION(1)
BNNCC_MASKS_FUNCTION(2)
BNNCC_MASKS_FUNCTION(4)

#endif /* BNNCC_RISCV_MASKS_H */
