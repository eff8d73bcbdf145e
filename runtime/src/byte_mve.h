/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of bytes by Arm's MVE (Helium), whose VMLADAVA multiplies 16 bytes by 16 others and adds all products to a sum
   in a core register.

   It takes two signed or two unsigned factors, so weights are stored 128 higher, as unsigned bytes, and 128 times the
   sum of each window is taken away again, once for all channels: exact for all bytes and all weights.

   A window is a row of whole steps of 16 bytes; what is behind its end meets weights of zero. Weights are stored
   [blocks of channels][steps][channels of a block][16]: two channels meet up to three windows, six a single one, as
   there are seven registers for sums beside the counter of a loop. */
#ifndef BNNCC_BYTE_MVE_H
#define BNNCC_BYTE_MVE_H

#include <stdint.h>

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define BNNCC_HAS_MVE 1
#include <arm_mve.h>
#endif

/* Not every network calls every function. */
#if defined(__GNUC__)
#define BNNCC_MVE_KERNEL __attribute__((unused)) static
#define BNNCC_MVE_INLINE __attribute__((always_inline)) static inline
#else
#define BNNCC_MVE_KERNEL static
#define BNNCC_MVE_INLINE static
#endif

/* The sum and all of so many bytes, which are copied. */
BNNCC_MVE_KERNEL uint32_t bnncc_mve_gather(void *row, const uint8_t *from, int32_t bytes, uint32_t sum)
{
    uint8_t *to = row;
#if defined(BNNCC_HAS_MVE)
    for (; bytes > 0; bytes -= 16, from += 16, to += 16) {
        const mve_pred16_t some = vctp8q((uint32_t)bytes);
        const uint8x16_t x = vldrbq_z_u8(from, some);
        vstrbq_p_u8(to, x, some);
        sum = vaddvaq_p_u8(sum, x, some);
    }
#else
    for (; bytes > 0; --bytes)
        sum += *to++ = *from++;
#endif
    return sum;
}

/* The same without a copy. */
BNNCC_MVE_KERNEL uint32_t bnncc_mve_add_up(const uint8_t *from, int32_t bytes, uint32_t sum)
{
#if defined(BNNCC_HAS_MVE)
    for (; bytes > 0; bytes -= 16, from += 16)
        sum = vaddvaq_u8(sum, vldrbq_u8(from));
#else
    for (; bytes > 0; --bytes)
        sum += *from++;
#endif
    return sum;
}

#if defined(BNNCC_HAS_MVE)
typedef uint8x16_t bnncc_mve_bytes;
#define BNNCC_MVE_LOAD(from) vldrbq_u8(from)
/* Compilers shall not see how pointers depend on another: they would count only one of them and add to it for each of
   the others. */
#define BNNCC_MVE_FORGET(pointer) __asm__("" : "+r"(pointer))
/* Weights are at addresses that divide by four, so that an offset may be 508, not 127. */
#define BNNCC_MVE_WEIGHT(from) vreinterpretq_u8_u32(vldrwq_u32(from))
#define BNNCC_MVE_ADD(sum, x, w) ((sum) = vmladavaq_u8(sum, x, w))
#else
typedef const void *bnncc_mve_bytes;
#define BNNCC_MVE_FORGET(pointer) ((void)(pointer))
#define BNNCC_MVE_LOAD(from) ((const void *)(from))
#define BNNCC_MVE_WEIGHT(from) ((const void *)(from))
#define BNNCC_MVE_ADD(sum, x, w) ((sum) = bnncc_mve_add(sum, x, w))
static inline uint32_t bnncc_mve_add(uint32_t sum, const uint8_t *x, const uint8_t *w)
{
    int32_t i;
    for (i = 0; i < 16; ++i)
        sum += (uint32_t)x[i] * w[i];
    return sum;
}
#endif

/* sums[c] += base[c] - 128 window, modulo 2^32. */
static inline void bnncc_mve_correct(int32_t *sums, const int32_t *base, uint32_t window, int32_t channels)
{
    const uint32_t less = 128u * window;
#if defined(BNNCC_HAS_MVE)
    for (; channels > 0; channels -= 4, sums += 4, base += 4) {
        const mve_pred16_t some = vctp32q((uint32_t)channels);
        const int32x4_t all = vaddq_x_s32(vldrwq_z_s32(sums, some), vldrwq_z_s32(base, some), some);
        vstrwq_p_s32(sums, vsubq_x_n_s32(all, (int32_t)less, some), some);
    }
#else
    for (; channels > 0; --channels, ++sums, ++base)
        *sums = (int32_t)((uint32_t)*sums + (uint32_t)*base - less);
#endif
}

/* sums[c] = base[c] and the products of a window and the weights of each channel. windows: the sum of the window's
   bytes. Sums of whole blocks are written. */
BNNCC_MVE_KERNEL void bnncc_mve_products_1x6(const void *rows, int32_t pitch, int32_t steps, const uint32_t *weight,
                                             const int32_t *base, const uint32_t *windows, int32_t channels,
                                             int32_t *sums, int32_t next)
{
    int32_t *to = sums, left;
    for (left = channels; left > 0; left -= 6, to += 6) {
        const uint8_t *x = rows;
        uint32_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0;
        int32_t turns;
        for (turns = steps; turns > 0; --turns, x += 16, weight += 24) {
            const bnncc_mve_bytes v = BNNCC_MVE_LOAD(x);
            BNNCC_MVE_ADD(a, v, BNNCC_MVE_WEIGHT(weight));
            BNNCC_MVE_ADD(b, v, BNNCC_MVE_WEIGHT(weight + 4));
            BNNCC_MVE_ADD(c, v, BNNCC_MVE_WEIGHT(weight + 8));
            BNNCC_MVE_ADD(d, v, BNNCC_MVE_WEIGHT(weight + 12));
            BNNCC_MVE_ADD(e, v, BNNCC_MVE_WEIGHT(weight + 16));
            BNNCC_MVE_ADD(f, v, BNNCC_MVE_WEIGHT(weight + 20));
        }
        to[0] = (int32_t)a, to[1] = (int32_t)b, to[2] = (int32_t)c;
        to[3] = (int32_t)d, to[4] = (int32_t)e, to[5] = (int32_t)f;
    }
    bnncc_mve_correct(sums, base, *windows, channels);
    (void)pitch, (void)next;
}

/* The same of three windows, `pitch` bytes from each other, with weights in blocks of two; their sums are `next` from
   each other. */
BNNCC_MVE_KERNEL void bnncc_mve_products_3x2(const void *rows, int32_t pitch, int32_t steps, const uint32_t *weight,
                                             const int32_t *base, const uint32_t *windows, int32_t channels,
                                             int32_t *sums, int32_t next)
{
    int32_t *to = sums, left;
    for (left = channels; left > 0; left -= 2, to += 2) {
        const uint8_t *x = rows, *y = x + pitch, *z = y + pitch;
        uint32_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0;
        int32_t turns;
        BNNCC_MVE_FORGET(y);
        BNNCC_MVE_FORGET(z);
        for (turns = steps; turns > 0; --turns, x += 16, y += 16, z += 16, weight += 8) {
            const bnncc_mve_bytes w0 = BNNCC_MVE_WEIGHT(weight), w1 = BNNCC_MVE_WEIGHT(weight + 4);
            const bnncc_mve_bytes u = BNNCC_MVE_LOAD(x), v = BNNCC_MVE_LOAD(y), w = BNNCC_MVE_LOAD(z);
            BNNCC_MVE_ADD(a, u, w0), BNNCC_MVE_ADD(b, u, w1);
            BNNCC_MVE_ADD(c, v, w0), BNNCC_MVE_ADD(d, v, w1);
            BNNCC_MVE_ADD(e, w, w0), BNNCC_MVE_ADD(f, w, w1);
        }
        to[0] = (int32_t)a, to[1] = (int32_t)b;
        to[next] = (int32_t)c, to[next + 1] = (int32_t)d;
        to[2 * next] = (int32_t)e, to[2 * next + 1] = (int32_t)f;
    }
    for (left = 0; left < 3; ++left)
        bnncc_mve_correct(sums + next * left, base, windows[left], channels);
}

/* The same of two windows. */
BNNCC_MVE_KERNEL void bnncc_mve_products_2x2(const void *rows, int32_t pitch, int32_t steps, const uint32_t *weight,
                                             const int32_t *base, const uint32_t *windows, int32_t channels,
                                             int32_t *sums, int32_t next)
{
    int32_t *to = sums, left;
    for (left = channels; left > 0; left -= 2, to += 2) {
        const uint8_t *x = rows, *y = x + pitch;
        uint32_t a = 0, b = 0, c = 0, d = 0;
        int32_t turns;
        BNNCC_MVE_FORGET(y);
        for (turns = steps; turns > 0; --turns, x += 16, y += 16, weight += 8) {
            const bnncc_mve_bytes w0 = BNNCC_MVE_WEIGHT(weight), w1 = BNNCC_MVE_WEIGHT(weight + 4);
            const bnncc_mve_bytes u = BNNCC_MVE_LOAD(x), v = BNNCC_MVE_LOAD(y);
            BNNCC_MVE_ADD(a, u, w0), BNNCC_MVE_ADD(b, u, w1);
            BNNCC_MVE_ADD(c, v, w0), BNNCC_MVE_ADD(d, v, w1);
        }
        to[0] = (int32_t)a, to[1] = (int32_t)b;
        to[next] = (int32_t)c, to[next + 1] = (int32_t)d;
    }
    bnncc_mve_correct(sums, base, windows[0], channels);
    bnncc_mve_correct(sums + next, base, windows[1], channels);
}

/* The same of one window. */
BNNCC_MVE_KERNEL void bnncc_mve_products_1x2(const void *rows, int32_t pitch, int32_t steps, const uint32_t *weight,
                                             const int32_t *base, const uint32_t *windows, int32_t channels,
                                             int32_t *sums, int32_t next)
{
    int32_t *to = sums, left;
    for (left = channels; left > 0; left -= 2, to += 2) {
        const uint8_t *x = rows;
        uint32_t a = 0, b = 0;
        int32_t turns;
        for (turns = steps; turns > 0; --turns, x += 16, weight += 8) {
            const bnncc_mve_bytes v = BNNCC_MVE_LOAD(x);
            BNNCC_MVE_ADD(a, v, BNNCC_MVE_WEIGHT(weight));
            BNNCC_MVE_ADD(b, v, BNNCC_MVE_WEIGHT(weight + 4));
        }
        to[0] = (int32_t)a, to[1] = (int32_t)b;
    }
    bnncc_mve_correct(sums, base, *windows, channels);
    (void)pitch, (void)next;
}

/* Every channel by itself: sums[c] = base[c] and the products of a window of height x width bytes, `down` and `right`
   from each other, and those of the window `next` bytes behind, whose sums are `pitch` behind. Weights are stored
   [blocks][taps][8]; base and sums of whole blocks of eight channels are read and written. VMULLB and VMULLT multiply
   even and odd channels, in lanes of 16 bits, to 32; VLD2 and VST2 take them apart and join them. */
BNNCC_MVE_INLINE void bnncc_mve_block(const uint8_t *x, int32_t next, int32_t height, int32_t down, int32_t width,
                                      int32_t right, const int8_t *weight, const int32_t *base, int32_t channels,
                                      int32_t *sums, int32_t pitch)
{
    const uint8_t *p = x, *q = x + next;
    int32_t i, j;
#if defined(BNNCC_HAS_MVE)
    const mve_pred16_t some = vctp16q((uint32_t)channels);
    int32x4x2_t s = vld2q_s32(base), t = s;
#else
    for (i = 0; i < 8; ++i)
        sums[i] = sums[pitch + i] = base[i];
#endif
    BNNCC_MVE_FORGET(q);
    for (i = height; i > 0; --i, p += down - width * right, q += down - width * right) {
        for (j = width; j > 0; --j, p += right, q += right, weight += 8) {
#if defined(BNNCC_HAS_MVE)
            const int16x8_t w = vldrbq_s16(weight);
            const int16x8_t u = vreinterpretq_s16_u16(channels < 8 ? vldrbq_z_u16(p, some) : vldrbq_u16(p));
            const int16x8_t v = vreinterpretq_s16_u16(channels < 8 ? vldrbq_z_u16(q, some) : vldrbq_u16(q));
            s.val[0] = vaddq_s32(s.val[0], vmullbq_int_s16(u, w));
            s.val[1] = vaddq_s32(s.val[1], vmulltq_int_s16(u, w));
            t.val[0] = vaddq_s32(t.val[0], vmullbq_int_s16(v, w));
            t.val[1] = vaddq_s32(t.val[1], vmulltq_int_s16(v, w));
#else
            int32_t c;
            for (c = 0; c < channels; ++c)
                sums[c] += p[c] * weight[c], sums[pitch + c] += q[c] * weight[c];
#endif
        }
    }
#if defined(BNNCC_HAS_MVE)
    vst2q_s32(sums, s);
    vst2q_s32(sums + pitch, t);
#endif
}

BNNCC_MVE_KERNEL void bnncc_mve_taps(const uint8_t *x, int32_t next, int32_t height, int32_t down, int32_t width,
                                     int32_t right, const int8_t *weight, const int32_t *base, int32_t channels,
                                     int32_t *sums, int32_t pitch)
{
    for (; channels >= 8; channels -= 8, x += 8, weight += 8 * height * width, base += 8, sums += 8)
        bnncc_mve_block(x, next, height, down, width, right, weight, base, 8, sums, pitch);
    if (channels > 0)
        bnncc_mve_block(x, next, height, down, width, right, weight, base, channels, sums, pitch);
}

#endif /* BNNCC_BYTE_MVE_H */
