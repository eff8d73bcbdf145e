/* SPDX-License-Identifier: Apache-2.0 */
/* For compilers that come without a C library: what generated code uses of <string.h>. */
#ifndef BNNCC_FREESTANDING_STRING_H
#define BNNCC_FREESTANDING_STRING_H

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);

#endif /* BNNCC_FREESTANDING_STRING_H */
