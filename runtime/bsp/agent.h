/* SPDX-License-Identifier: Apache-2.0 */
/* The agent: a firmware that measures kernels for `bnncc tune` on the machine at the other end of a serial port.

   A firmware of your own becomes one with agent.c: define `agent_get`, `agent_put` and `agent_reset` for your board,
   call `agent_crashed` in the handler of faults, `agent_tick` in that of SysTick (Cortex-M only), and at the end of
   your start-up code `agent_main`, which does not return. uart_cmsdk.c, uart_16550.c and the part of cortex_m.c and
   riscv.c for BNNCC_AGENT do so for emulated boards.

   Both sides speak in frames, of little-endian numbers:
     0  'b' 'n'     where a frame begins
     2  sequence    a request's number; its answer has the same
     3  operation   of a request, or what its answer says
     4  length      of the payload in bytes, two bytes, up to AGENT_PAYLOAD
     6  payload
        CRC-32      of everything from the sequence on (IEEE 802.3), four bytes
   A frame that came damaged is answered by NOISE and sent again; one with the number and operation of the one before
   is not carried out again: its answer is repeated. */
#ifndef BNNCC_AGENT_H
#define BNNCC_AGENT_H

#include <stdint.h>

enum { AGENT_VERSION = 1, AGENT_PAYLOAD = 1024 };

enum agent_operation {
    AGENT_HELLO = 1, /* answers version, counter, clock, RAM's address and size, image (words), the core's name */
    AGENT_WRITE = 2, /* address, bytes */
    AGENT_READ = 3,  /* address, count; answers the bytes */
    AGENT_START = 4, /* address, count, CRC-32 of an image in RAM; count 0: the one that the firmware was linked with;
                        answers the pool's address and size, and the image's number */
    AGENT_CALL = 5,  /* kernel, repeat, limit in units of 2^24 cycles, places; says ACCEPTED, later answers two words,
                        the cycles */
    AGENT_RESET = 6
};

enum agent_answer {
    AGENT_DONE = 0x80,
    AGENT_ACCEPTED = 0x81,
    AGENT_NOISE = 0x90,    /* the request came damaged */
    AGENT_REFUSED = 0x91,  /* it asks for what there is not; the payload says why, in words */
    AGENT_CRASHED = 0x92,  /* the processor faulted, the board resets */
    AGENT_TOO_LONG = 0x93, /* a call went over its limit, the board resets */
    AGENT_BOOTED = 0x94    /* the board has started; answers nothing */
};

enum agent_counter { AGENT_NO_COUNTER = 0, AGENT_CYCCNT = 1, AGENT_SYSTICK = 2, AGENT_MCYCLE = 3 };

/* An image, as it lies at the start of the memory that it was loaded into. */
struct agent_image {
    uint32_t magic, number;
    int (*call)(uint32_t kernel, uint32_t repeat, const uint32_t *places, uint64_t (*clock)(void), uint64_t *taken);
    unsigned char *pool;
    uint32_t pool_bytes;
};

#define AGENT_MAGIC UINT32_C(0x6d696e62)

/* What the board has for kernels, and how fast its core is clocked (0: unknown). */
struct agent_board {
    const char *core;
    uint32_t clock;
    unsigned char *ram;
    uint32_t ram_bytes;
};

/* The next byte that comes, waiting for it. */
unsigned char agent_get(void);
void agent_put(unsigned char byte);
void agent_reset(void);

/* image: one that the firmware was linked with, or 0. */
void agent_main(const struct agent_board *board, const struct agent_image *image);
void agent_crashed(void);
void agent_tick(void);

#endif /* BNNCC_AGENT_H */
