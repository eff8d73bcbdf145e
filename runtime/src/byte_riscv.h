/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of bytes by RISC-V's vectors, which may be of any length: channels lie in the lanes, VWMACC multiplies weights,
   widened to 16 bits once for up to three windows, by a byte of a window and adds to sums of 32 bits.

   Weights are stored [blocks of channels][bytes of a window][channels of a block]. */
#ifndef BNNCC_BYTE_RISCV_H
#define BNNCC_BYTE_RISCV_H

#include <stddef.h>
#include <stdint.h>

#include <riscv_vector.h>

/* Not every network calls every function. */
#define BNNCC_RVV_KERNEL __attribute__((unused)) static

/* Copy bytes. */
BNNCC_RVV_KERNEL void bnncc_rvv_gather(void *row, const uint8_t *from, int32_t bytes)
{
    uint8_t *to = row;
    while (bytes > 0) {
        const size_t some = __riscv_vsetvl_e8m8((size_t)bytes);
        __riscv_vse8_v_u8m8(to, __riscv_vle8_v_u8m8(from, some), some);
        from += some, to += some, bytes -= (int32_t)some;
    }
}

/* Weights of 8 bits in lanes of 16. */
static inline vint16m4_t bnncc_rvv_weight(const int8_t *from, size_t lanes)
{
    return __riscv_vsext_vf2_i16m4(__riscv_vle8_v_i8m2(from, lanes), lanes);
}

/* Bytes in lanes of 16 bits. */
static inline vint16m4_t bnncc_rvv_bytes(const uint8_t *from, size_t lanes)
{
    return __riscv_vreinterpret_v_u16m4_i16m4(__riscv_vzext_vf2_u16m4(__riscv_vle8_v_u8m2(from, lanes), lanes));
}

/* sums[c] = base[c] and the products of a window, so many bytes at `rows`, and the weights of each channel of a
   block. */
BNNCC_RVV_KERNEL void bnncc_rvv_products_1(const void *rows, int32_t pitch, int32_t bytes, const int8_t *weight,
                                           int32_t block, const int32_t *base, int32_t channels, int32_t *sums,
                                           int32_t next)
{
    size_t some, left;
    for (left = (size_t)channels; left; left -= some, weight += some, base += some, sums += some) {
        const uint8_t *x = rows, *const end = x + bytes;
        const int8_t *w = weight;
        vint32m8_t a;
        some = __riscv_vsetvl_e16m4(left);
        a = __riscv_vle32_v_i32m8(base, some);
#pragma GCC unroll 4
        for (; x != end; ++x, w += block)
            a = __riscv_vwmacc_vx_i32m8(a, x[0], bnncc_rvv_weight(w, some), some);
        __riscv_vse32_v_i32m8(sums, a, some);
    }
    (void)pitch, (void)next;
}

/* The same of two windows, `pitch` bytes from each other; their sums are `next` from each other. */
BNNCC_RVV_KERNEL void bnncc_rvv_products_2(const void *rows, int32_t pitch, int32_t bytes, const int8_t *weight,
                                           int32_t block, const int32_t *base, int32_t channels, int32_t *sums,
                                           int32_t next)
{
    size_t some, left;
    for (left = (size_t)channels; left; left -= some, weight += some, base += some, sums += some) {
        const uint8_t *x = rows, *y = x + pitch, *const end = x + bytes;
        const int8_t *w = weight;
        vint32m8_t a, b;
        some = __riscv_vsetvl_e16m4(left);
        a = b = __riscv_vle32_v_i32m8(base, some);
        for (; x != end; ++x, ++y, w += block) {
            const vint16m4_t taps = bnncc_rvv_weight(w, some);
            a = __riscv_vwmacc_vx_i32m8(a, x[0], taps, some);
            b = __riscv_vwmacc_vx_i32m8(b, y[0], taps, some);
        }
        __riscv_vse32_v_i32m8(sums, a, some);
        __riscv_vse32_v_i32m8(sums + next, b, some);
    }
}

/* The same of three windows. */
BNNCC_RVV_KERNEL void bnncc_rvv_products_3(const void *rows, int32_t pitch, int32_t bytes, const int8_t *weight,
                                           int32_t block, const int32_t *base, int32_t channels, int32_t *sums,
                                           int32_t next)
{
    size_t some, left;
    for (left = (size_t)channels; left; left -= some, weight += some, base += some, sums += some) {
        const uint8_t *x = rows, *y = x + pitch, *z = y + pitch, *const end = x + bytes;
        const int8_t *w = weight;
        vint32m8_t a, b, c;
        some = __riscv_vsetvl_e16m4(left);
        a = b = c = __riscv_vle32_v_i32m8(base, some);
        for (; x != end; ++x, ++y, ++z, w += block) {
            const vint16m4_t taps = bnncc_rvv_weight(w, some);
            a = __riscv_vwmacc_vx_i32m8(a, x[0], taps, some);
            b = __riscv_vwmacc_vx_i32m8(b, y[0], taps, some);
            c = __riscv_vwmacc_vx_i32m8(c, z[0], taps, some);
        }
        __riscv_vse32_v_i32m8(sums, a, some);
        __riscv_vse32_v_i32m8(sums + next, b, some);
        __riscv_vse32_v_i32m8(sums + 2 * next, c, some);
    }
}

/* Every channel of a block by itself: sums[c] = base[c] and the products of a window of height x width bytes, `down`
   and `right` from each other, and those of the window `next` bytes behind, whose sums are `pitch` behind. Weights are
   stored [blocks of channels][taps][channels of a block]. */
BNNCC_RVV_KERNEL void bnncc_rvv_taps(const uint8_t *x, int32_t next, int32_t height, int32_t down, int32_t width,
                                     int32_t right, const int8_t *weight, int32_t block, const int32_t *base,
                                     int32_t channels, int32_t *sums, int32_t pitch)
{
    size_t some, left;
    for (left = (size_t)channels; left; left -= some, x += some, weight += some, base += some, sums += some) {
        const uint8_t *p = x;
        const int8_t *w = weight;
        int32_t i, j;
        vint32m8_t a, b;
        some = __riscv_vsetvl_e16m4(left);
        a = b = __riscv_vle32_v_i32m8(base, some);
        for (i = height; i > 0; --i, p += down - width * right) {
            for (j = width; j > 0; --j, p += right, w += block) {
                const vint16m4_t taps = bnncc_rvv_weight(w, some);
                a = __riscv_vwmacc_vv_i32m8(a, bnncc_rvv_bytes(p, some), taps, some);
                b = __riscv_vwmacc_vv_i32m8(b, bnncc_rvv_bytes(p + next, some), taps, some);
            }
        }
        __riscv_vse32_v_i32m8(sums, a, some);
        __riscv_vse32_v_i32m8(sums + pitch, b, some);
    }
}

#endif /* BNNCC_BYTE_RISCV_H */
