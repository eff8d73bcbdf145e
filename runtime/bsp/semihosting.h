/* SPDX-License-Identifier: Apache-2.0 */
/* Semihosting (Arm's Semihosting for AArch32 and AArch64; RISC-V took the same calls): the emulator opens files
   on the machine that it runs on. A board file defines `semihost`, the call itself, before it includes this. */
#ifndef BNNCC_SEMIHOSTING_H
#define BNNCC_SEMIHOSTING_H

#include <stdint.h>

#include "board.h"

enum semihosting { SYS_OPEN = 0x01, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };

int main(void);

/* Opened at first use; 0 before. */
static long request_file, answer_file;

/* mode: of fopen, as a number: 1 is "rb", 5 is "wb". */
static long open_file(const char *name, long mode)
{
    long length = 0;
    while (name[length])
        ++length;
    {
        const long block[3] = {(long)name, mode, length};
        return semihost(SYS_OPEN, block);
    }
}

int board_read(void *to, uint32_t bytes)
{
    if (!request_file)
        request_file = open_file("request", 1);
    {
        const long block[3] = {request_file, (long)to, (long)bytes};
        return semihost(SYS_READ, block) != 0;
    }
}

int board_write(const void *from, uint32_t bytes)
{
    if (!answer_file)
        answer_file = open_file("answer", 5);
    {
        const long block[3] = {answer_file, (long)from, (long)bytes};
        return semihost(SYS_WRITE, block) != 0;
    }
}

/* An emulator's clock says nothing of a processor; it counts instructions instead. */
uint64_t board_nanoseconds(void)
{
    return 0;
}

void board_print(const char *text)
{
    semihost(SYS_WRITE0, text);
}

static void board_exit(int status)
{
    const long block[2] = {0x20026 /* the application ended */, status};
    for (;;)
        semihost(SYS_EXIT_EXTENDED, block);
}

static void board_main(void)
{
    board_exit(main());
}

#endif /* BNNCC_SEMIHOSTING_H */
