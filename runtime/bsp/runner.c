/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a network, or single layers of it, as a stream of requests says; for emulators.

   A request is three little-endian words (operation, which, bytes), and for WRITE the bytes themselves. The
   answers follow one another: for READ the bytes, for RUN and LAYER one word, the status. Memories are numbered:
   0 the arena, the state if there is one, then the inputs, then the outputs; RUN is one step of a network with
   states. */
#include <stdint.h>

#include "ports.h"
#include "board.h"

enum operation { STOP = 0, WRITE = 1, READ = 2, RUN = 3, LAYER = 4 };

/* An emulator that counts instructions counts between these two; of their own, so that each begins a block. */
__attribute__((noinline)) void bnncc_count_begin(void)
{
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) void bnncc_count_end(void)
{
    __asm__ volatile("" ::: "memory");
}

static int answer(uint32_t operation, uint32_t which)
{
    uint32_t status;
    bnncc_count_begin();
    status = (uint32_t)(operation == RUN ? run_network() : run_layer((int)which));
    bnncc_count_end();
    return board_write(&status, sizeof status);
}

int main(void)
{
    uint32_t request[3];
    while (board_read(request, sizeof request) == 0) {
        const struct memory *memory = &memories[request[1] < MEMORIES ? request[1] : 0];
        switch (request[0]) {
        case WRITE:
            if (request[1] >= MEMORIES || request[2] > memory->bytes || board_read(memory->start, request[2]))
                return 2;
            break;
        case READ:
            if (request[1] >= MEMORIES || request[2] > memory->bytes || board_write(memory->start, request[2]))
                return 3;
            break;
        case RUN:
        case LAYER:
            if (answer(request[0], request[1]))
                return 4;
            break;
        case STOP:
            return 0;
        default:
            return 5;
        }
    }
    return 6;
}
