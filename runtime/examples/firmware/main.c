/* SPDX-License-Identifier: Apache-2.0 */
/* A firmware that reads one handwritten digit and says which it is; before that, the library checks itself. */
#include "board.h"
#include "digits.h"

/* All memory that the network works in. Its size is known when the library is compiled. */
static DIGITS_ALIGNED unsigned char arena[DIGITS_ARENA_BYTES];

/* 8x8 pixels from 0 (paper) to 16 (ink): a seven. */
static const unsigned char pixels[DIGITS_X_ELEMENTS] = {
    0, 0, 3, 15, 16, 15, 1, 0, /* */
    0, 0, 9, 11, 9,  16, 3, 0, /* */
    0, 0, 1, 0,  3,  16, 3, 0, /* */
    0, 0, 0, 0,  9,  14, 0, 0, /* */
    0, 0, 4, 15, 15, 16, 6, 0, /* */
    0, 0, 2, 12, 15, 7,  1, 0, /* */
    0, 0, 0, 13, 8,  0,  0, 0, /* */
    0, 0, 4, 14, 1,  0,  0, 0, /* */
};

int main(void)
{
    static float image[DIGITS_X_ELEMENTS];
    static float scores[DIGITS_LOGITS_ELEMENTS];
    static char answer[] = "this is a _\n";
    int i, best = 0;

    if (digits_selftest(arena) != 0) {
        board_print("the self-test failed\n");
        return 1;
    }
    for (i = 0; i < DIGITS_X_ELEMENTS; ++i)
        image[i] = (float)pixels[i] / 16.0f;
    if (digits_run(arena, image, scores) != DIGITS_OK)
        return 2;
    for (i = 1; i < DIGITS_LOGITS_ELEMENTS; ++i)
        if (scores[i] > scores[best])
            best = i;
    answer[10] = (char)('0' + best);
    board_print(answer);
    return 0;
}
