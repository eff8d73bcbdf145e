/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BNNCC_PLACEMENT_H
#define BNNCC_PLACEMENT_H

/* Where constant weights go. Define BNNCC_WEIGHTS_SECTION (a string) to choose their section. */
#if defined(__GNUC__) && defined(BNNCC_WEIGHTS_SECTION)
#define BNNCC_WEIGHTS __attribute__((aligned(64), section(BNNCC_WEIGHTS_SECTION)))
#elif defined(__GNUC__)
#define BNNCC_WEIGHTS __attribute__((aligned(64)))
#elif defined(_MSC_VER)
#define BNNCC_WEIGHTS __declspec(align(64))
#else
#define BNNCC_WEIGHTS
#endif

#endif /* BNNCC_PLACEMENT_H */
