/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BNNCC_PROFILE_H
#define BNNCC_PROFILE_H

/* Layers take the same bytes of the arena one after the other, for numbers of different types. A compiler that tells
   memory apart by the types of what is read and written there (as C lets it) must not move that past a layer's end. */
#if defined(__GNUC__)
#define BNNCC_LAYER_ENDS() __asm__ volatile("" ::: "memory")
#else
#define BNNCC_LAYER_ENDS() ((void)0)
#endif

/* One layer; with BNNCC_PROFILE defined, hook(layer, 0) before it and hook(layer, 1) after it. */
#ifdef BNNCC_PROFILE
#define BNNCC_STEP(hook, layer, call) \
    do {                              \
        hook((layer), 0);             \
        call;                         \
        BNNCC_LAYER_ENDS();           \
        hook((layer), 1);             \
    } while (0)
#else
#define BNNCC_STEP(hook, layer, call) \
    do {                              \
        call;                         \
        BNNCC_LAYER_ENDS();           \
    } while (0)
#endif

#endif /* BNNCC_PROFILE_H */
