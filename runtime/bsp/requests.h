/* SPDX-License-Identifier: Apache-2.0 */
/* The loop over a stream of requests that measure.c and runner.c have in common.

   A request is three little-endian words (operation, a, b), and what belongs to it:
     WRITE which bytes, then the bytes    into memory
     READ which bytes                     answers the bytes
     STOP
   and more, which are the program's: it defines `memory_of` and `answer`, and calls `serve`. */
#ifndef BNNCC_REQUESTS_H
#define BNNCC_REQUESTS_H

#include <stddef.h>
#include <stdint.h>

#include "board.h"

enum request { STOP = 0, WRITE = 1, READ = 2 };

/* Where so many bytes lie that requests call `which`; NULL where there are not as many. */
static void *memory_of(uint32_t which, uint32_t bytes);

/* Do what a request of the program's own asks for; 0 if it went well. */
static int answer(uint32_t operation, uint32_t a, uint32_t b);

/* Until STOP; 0 if all went well. */
static int serve(void)
{
    uint32_t request[3];
    while (board_read(request, sizeof request) == 0) {
        void *memory = request[0] == WRITE || request[0] == READ ? memory_of(request[1], request[2]) : NULL;
        switch (request[0]) {
        case WRITE:
            if (!memory || board_read(memory, request[2]))
                return 2;
            break;
        case READ:
            if (!memory || board_write(memory, request[2]))
                return 3;
            break;
        case STOP:
            return 0;
        default:
            if (answer(request[0], request[1], request[2]))
                return 4;
        }
    }
    return 6;
}

#endif /* BNNCC_REQUESTS_H */
