/* SPDX-License-Identifier: Apache-2.0 */
/* Counting differing bits with RISC-V's vectors and Zvbb: 32 output channels in the lanes.

   16 bits of activations, in a scalar register, meet as many of each of 32 channels: vxor.vx, vcpop.v, vadd.vv on
   lanes of 16 bits, four registers at a time (of 128 bits; less where they are longer). Without Zvbb the bits of a
   lane are counted by shifts and additions: slower, but the same numbers. */
#ifndef BNNCC_RISCV_LANES_H
#define BNNCC_RISCV_LANES_H

#include <string.h>

#include "riscv_vectors.h"

/* How many bits of each lane are set. */
static inline vuint16m4_t bnncc_riscv_lanes_popcount(vuint16m4_t v)
{
#if defined(__riscv_zvbb)
    return __riscv_vcpop_v_u16m4(v, 32);
#else
    vuint16m4_t half = __riscv_vand_vx_u16m4(__riscv_vsrl_vx_u16m4(v, 1, 32), 0x5555, 32);
    v = __riscv_vsub_vv_u16m4(v, half, 32);
    half = __riscv_vand_vx_u16m4(__riscv_vsrl_vx_u16m4(v, 2, 32), 0x3333, 32);
    v = __riscv_vadd_vv_u16m4(__riscv_vand_vx_u16m4(v, 0x3333, 32), half, 32);
    v = __riscv_vadd_vv_u16m4(v, __riscv_vsrl_vx_u16m4(v, 4, 32), 32);
    v = __riscv_vand_vx_u16m4(v, 0x0f0f, 32);
    return __riscv_vand_vx_u16m4(__riscv_vadd_vv_u16m4(v, __riscv_vsrl_vx_u16m4(v, 8, 32), 32), 31, 32);
#endif
}

/* 16 bits of a row, which holds words of another type. */
static inline uint16_t bnncc_riscv_lanes_load(const uint8_t *from)
{
    uint16_t value;
    memcpy(&value, __builtin_assume_aligned(from, 2), 2);
    return value;
}

/* sums[pitch * lane] += counts[lane] for the first lanes. */
static inline void bnncc_riscv_lanes_add(int32_t *sums, size_t pitch, vuint16m4_t counts, size_t lanes)
{
    const ptrdiff_t step = (ptrdiff_t)(4 * pitch);
    vuint32m8_t sum = __riscv_vreinterpret_v_i32m8_u32m8(__riscv_vlse32_v_i32m8(sums, step, lanes));
    sum = __riscv_vwaddu_wv_u32m8(sum, counts, lanes);
    __riscv_vsse32_v_i32m8(sums, step, __riscv_vreinterpret_v_u32m8_i32m8(sum), lanes);
}

/* M(pixel) for each of 1, 2 or 4 pixels. */
#define BNNCC_LANES_PIXELS_1(M) M(0)
#define BNNCC_LANES_PIXELS_2(M) M(0) M(1)
#define BNNCC_LANES_PIXELS_4(M) M(0) M(1) M(2) M(3)
#define BNNCC_LANES_START(p) vuint16m4_t count##p = __riscv_vmv_v_x_u16m4(0, 32);
#define BNNCC_LANES_COUNT(p) \
    count##p = __riscv_vadd_vv_u16m4(count##p, bnncc_riscv_lanes_popcount(__riscv_vxor_vx_u16m4( \
        weights, bnncc_riscv_lanes_load(row + (p) * stride + at), 32)), 32);
#define BNNCC_LANES_STORE(p) bnncc_riscv_lanes_add(sums + (p), pitch, count##p, valid);

/* sums[pitch * channel + p] += how many bits differ between row p of the activations and the channel's weights.

   rows: P rows of `bytes` bytes, an even number, `stride` bytes from one to the next, aligned to 2 bytes. weight: blocks of 32 channels,
   32 * `next` bytes from one to the next; in each, for every 16 bits of the row, those of the channels side by side,
   zeros beyond the last channel. A count of 16 bits overflows after 8190 bytes: then it is added to the sums. */
#define BNNCC_LANES_FUNCTION(P)                                                                        \
    BNNCC_MICRO_KERNEL void bnncc_riscv_lanes_##P(const void *rows, size_t stride, size_t bytes,       \
        const void *weight, size_t next, size_t channels, int32_t *sums, size_t pitch)                 \
    {                                                                                                  \
        const uint8_t *row = rows, *block = weight;                                                    \
        size_t first, done, at;                                                                        \
        (void)stride;                                                                                  \
        for (first = 0; first < channels; first += 32, block += 32 * next, sums += 32 * pitch) {       \
            const size_t valid = channels - first < 32 ? channels - first : 32;                        \
            const uint16_t *w = (const uint16_t *)(const void *)block;                                 \
            for (done = 0; done < bytes; done = at) {                                                  \
                const size_t end = bytes - done < 8190 ? bytes : done + 8190;                          \
                BNNCC_LANES_PIXELS_##P(BNNCC_LANES_START)                                              \
                for (at = done; at < end; at += 2, w += 32) {                                          \
                    const vuint16m4_t weights = __riscv_vle16_v_u16m4(w, 32);                          \
                    BNNCC_LANES_PIXELS_##P(BNNCC_LANES_COUNT)                                          \
                }                                                                                      \
                BNNCC_LANES_PIXELS_##P(BNNCC_LANES_STORE)                                              \
            }                                                                                          \
        }                                                                                              \
    }

BNNCC_LANES_FUNCTION(1)
BNNCC_LANES_FUNCTION(2)
BNNCC_LANES_FUNCTION(4)

#endif /* BNNCC_RISCV_LANES_H */
