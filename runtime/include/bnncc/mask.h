/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BNNCC_MASK_H
#define BNNCC_MASK_H

#include <stddef.h>
#include <stdint.h>

/* A plane of bits [images, rows, columns, channels], packed along the channels in 32-bit words: channel c is bit
   c % 32 of word c / 32. Strides and offset count words; around each image may lie a halo. */
struct bnncc_plane {
    size_t offset, images, rows, columns, channels;
    size_t image_stride, row_stride, column_stride;
};

/* Whether any bit is 0 in rows first to end - 1, counted through all images. The halo and the bits of a last word
   beyond the channels do not count. */
static int bnncc_any_zero(const uint32_t *words, const struct bnncc_plane *plane, size_t first, size_t end)
{
    const size_t whole = plane->channels / 32;
    const uint32_t beyond = plane->channels % 32 ? ~(uint32_t)0 << plane->channels % 32 : 0;
    const int is_dense = !beyond && plane->column_stride == whole;
    size_t row, x, k;
    for (row = first; row < end; ++row) {
        const uint32_t *pixel = words + plane->offset + row / plane->rows * plane->image_stride
                                + row % plane->rows * plane->row_stride;
        uint32_t all = ~(uint32_t)0;
        for (k = 0; is_dense && k < plane->columns * whole; ++k)
            all &= pixel[k];
        for (x = 0; !is_dense && x < plane->columns; ++x, pixel += plane->column_stride) {
            for (k = 0; k < whole; ++k)
                all &= pixel[k];
            if (beyond)
                all &= pixel[whole] | beyond;
        }
        if (~all)
            return 1;
    }
    return 0;
}

#endif /* BNNCC_MASK_H */
