/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of boards with an operating system. */
#ifndef BNNCC_CLOCK_H
#define BNNCC_CLOCK_H

#include <time.h>

#include "board.h"

uint64_t board_nanoseconds(void)
{
    struct timespec now;
    /* What this process had of the processor: programs that run meanwhile do not count. */
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) && clock_gettime(CLOCK_MONOTONIC, &now))
        return 0;
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

#endif /* BNNCC_CLOCK_H */
