/* SPDX-License-Identifier: Apache-2.0 */
/* A Linux process: requests on standard input, answers on standard output. */
#define _POSIX_C_SOURCE 199309L

#include <unistd.h>

#include "board.h"
#include "clock.h"

int board_read(void *to, uint32_t bytes)
{
    unsigned char *next = to;
    while (bytes) {
        const ssize_t got = read(0, next, bytes);
        if (got <= 0)
            return 1;
        next += got;
        bytes -= (uint32_t)got;
    }
    return 0;
}

int board_write(const void *from, uint32_t bytes)
{
    const unsigned char *next = from;
    while (bytes) {
        const ssize_t put = write(1, next, bytes);
        if (put <= 0)
            return 1;
        next += put;
        bytes -= (uint32_t)put;
    }
    return 0;
}
