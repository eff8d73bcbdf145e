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

/* Whether any bit of the images is 0. The halo and the bits of a last word beyond the channels do not count. */
static int bnncc_any_zero(const uint32_t *words, const struct bnncc_plane *plane)
{
    const size_t whole = plane->channels / 32;
    const uint32_t beyond = plane->channels % 32 ? ~(uint32_t)0 << plane->channels % 32 : 0;
    size_t n, y, x, k;
    for (n = 0; n < plane->images; ++n) {
        for (y = 0; y < plane->rows; ++y) {
            const uint32_t *pixel = words + plane->offset + n * plane->image_stride + y * plane->row_stride;
            uint32_t all = ~(uint32_t)0;
            for (x = 0; x < plane->columns; ++x, pixel += plane->column_stride) {
                for (k = 0; k < whole; ++k)
                    all &= pixel[k];
                if (beyond)
                    all &= pixel[whole] | beyond;
            }
            if (~all)
                return 1;
        }
    }
    return 0;
}

#endif /* BNNCC_MASK_H */
