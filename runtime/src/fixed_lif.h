/* SPDX-License-Identifier: Apache-2.0 */
/* Leaky neurons whose membranes are integers: leak, threshold, reset and the packing of spikes.

       s = saturate(x + v)
       u = s + ((v * factor + half) >> W)     half = 2^(W - 1); KEEP: without this term
       fires where u > level (GT) or u >= level (GE)
       v = u - level (SUBTRACT), or reset (SET), where it fires, else u

   W is 16 or 32, the bits of a membrane and of a current; saturate gives -2^15 to 2^15 - 1, or -2^30 to 2^30 - 1.
   Bit i % 32 of words[i / 32] is the spike of neuron i. level: one for all neurons (ALL), or one for each (EACH).

   With Arm's DSP extension two neurons of 16 bits are updated at a time: SMLABB and SMLATB, whose upper halves PKHTB
   joins, QADD16, SADD16; SSUB16 compares and SEL chooses. 32 bits: SSAT, SMMLAR, and predicated instructions. */
#ifndef BNNCC_FIXED_LIF_H
#define BNNCC_FIXED_LIF_H

#include <stdint.h>

#define BNNCC_LIF_LEVEL_ALL(i) level[0]
#define BNNCC_LIF_LEVEL_EACH(i) level[i]
#define BNNCC_LIF_FIRES_GT(u, l) ((u) > (l))
#define BNNCC_LIF_FIRES_GE(u, l) ((u) >= (l))
#define BNNCC_LIF_SUBTRACT(u, l) ((u) - (l))
#define BNNCC_LIF_SET(u, l) reset
#define BNNCC_LIF_LEAK16(v) (((v) * factor + 32768) >> 16)
#define BNNCC_LIF_LEAK32(v) ((int32_t)(((int64_t)(v) * factor + INT64_C(0x80000000)) >> 32))
#define BNNCC_LIF_KEEP16(v) 0
#define BNNCC_LIF_KEEP32(v) 0

static inline int32_t bnncc_lif_saturate(int32_t y, int32_t limit)
{
    return y < -limit ? -limit : y > limit - 1 ? limit - 1 : y;
}

/* Neuron `at`, written plainly. */
#define BNNCC_LIF_PLAIN(limit, leak, FIRES, RESET, LEVEL)                               \
    {                                                                                   \
        const int32_t l = BNNCC_LIF_LEVEL_##LEVEL(at);                                  \
        const int32_t u = bnncc_lif_saturate(x[at] + membrane[at], limit) + (leak);     \
        const uint32_t fires = BNNCC_LIF_FIRES_##FIRES(u, l);                           \
        word = (at % 32 == 0 ? 0u : word) | fires << (at % 32);                         \
        value = fires ? BNNCC_LIF_##RESET(u, l) : u;                                    \
        words[at / 32] = word;                                                          \
    }

#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
#define BNNCC_LIF_ASM16_LEAK(x, v)                \
    "smlabb %[t], " v ", %[factor], %[half]\n\t"  \
    "smlatb %[r], " v ", %[factor], %[half]\n\t"  \
    "qadd16 " v ", " x ", " v "\n\t"              \
    "pkhtb %[t], %[r], %[t], asr #16\n\t"         \
    "sadd16 " v ", " v ", %[t]\n\t"
#define BNNCC_LIF_ASM16_KEEP(x, v) "qadd16 " v ", " x ", " v "\n\t"
#define BNNCC_LIF_ASM16_SUBTRACT_GT(x, v, shift)   \
    "ssub16 %[r], " v ", %[l]\n\t"                 \
    "orr %[t], %[word], %[ones], lsl #" shift "\n\t" \
    "ssub16 " x ", %[l], " v "\n\t"                \
    "sel " v ", " v ", %[r]\n\t"                   \
    "sel %[word], %[word], %[t]\n\t"
#define BNNCC_LIF_ASM16_SUBTRACT_GE(x, v, shift)   \
    "orr %[t], %[word], %[ones], lsl #" shift "\n\t" \
    "ssub16 " x ", " v ", %[l]\n\t"                \
    "sel " v ", " x ", " v "\n\t"                  \
    "sel %[word], %[t], %[word]\n\t"
#define BNNCC_LIF_ASM16_SET_GT(x, v, shift)        \
    "orr %[t], %[word], %[ones], lsl #" shift "\n\t" \
    "ssub16 " x ", %[l], " v "\n\t"                \
    "sel " v ", " v ", %[set]\n\t"                 \
    "sel %[word], %[word], %[t]\n\t"
#define BNNCC_LIF_ASM16_SET_GE(x, v, shift)        \
    "orr %[t], %[word], %[ones], lsl #" shift "\n\t" \
    "ssub16 " x ", " v ", %[l]\n\t"                \
    "sel " v ", %[set], " v "\n\t"                 \
    "sel %[word], %[t], %[word]\n\t"

/* Two neurons at a time: their spikes become bits 2 k and 2 k + 17 of a word. */
#define BNNCC_LIF_TWO(LEAK, FIRES, RESET, v, shift)                                                         \
    "ldr %[y], [%[x]], #4\n\t"                                                                              \
    "ldr %[l], [%[levels]], #4\n\t" BNNCC_LIF_ASM16_##LEAK("%[y]", v)                                       \
    BNNCC_LIF_ASM16_##RESET##_##FIRES("%[y]", v, shift)
#define BNNCC_LIF_FOUR_EACH(LEAK, FIRES, RESET, one, other)                                                 \
    "ldrd %[v], %[w], [%[m]]\n\t" BNNCC_LIF_TWO(LEAK, FIRES, RESET, "%[v]", one)                            \
    BNNCC_LIF_TWO(LEAK, FIRES, RESET, "%[w]", other) "strd %[v], %[w], [%[m]], #8\n\t"
#define BNNCC_LIF_FOUR_ALL(LEAK, FIRES, RESET, one, other)                                                  \
    "ldrd %[y], %[z], [%[x]], #8\n\t"                                                                       \
    "ldrd %[v], %[w], [%[m]]\n\t" BNNCC_LIF_ASM16_##LEAK("%[y]", "%[v]")                                    \
    BNNCC_LIF_ASM16_##RESET##_##FIRES("%[y]", "%[v]", one) BNNCC_LIF_ASM16_##LEAK("%[z]", "%[w]")           \
    BNNCC_LIF_ASM16_##RESET##_##FIRES("%[z]", "%[w]", other) "strd %[v], %[w], [%[m]], #8\n\t"
#define BNNCC_LIF_PLACE_ALL 0u
#define BNNCC_LIF_PLACE_EACH (uintptr_t)level
#define BNNCC_LIF_MORE_ALL , [z] "=&r"(z)
#define BNNCC_LIF_MORE_EACH , [levels] "+&r"(levels), [l] "=&r"(l)
#define BNNCC_LIF_LAST_ALL [l] "r"(l),
#define BNNCC_LIF_LAST_EACH
#define BNNCC_LIF_SET_SUBTRACT
#define BNNCC_LIF_SET_SET , [set] "r"(set)
#define BNNCC_LIF_GIVEN_LEAK , [factor] "r"(factor), [half] "r"(32768)
#define BNNCC_LIF_GIVEN_KEEP

/* Sixteen neurons; `half` words of spikes are stored one by one. */
#define BNNCC_LIF_DSP16(LEAK, FIRES, RESET, LEVEL)                                                          \
    if ((((uintptr_t)x | (uintptr_t)membrane | BNNCC_LIF_PLACE_##LEVEL) & 3u) == 0) {                       \
        const int16_t *from = x, *levels = level;                                                           \
        int16_t *to = membrane;                                                                             \
        uint16_t *spikes = (uint16_t *)(void *)words;                                                       \
        const uint32_t set = ((uint32_t)reset & 0xffffu) | (uint32_t)reset << 16;                           \
        uint32_t l = ((uint32_t)level[0] & 0xffffu) | (uint32_t)level[0] << 16;                             \
        (void)set;                                                                                          \
        (void)levels;                                                                                       \
        for (; at + 16 <= count; at += 16) {                                                                \
            uint32_t bits = 0, y, z, v, w, t, r;                                                            \
            (void)z;                                                                                        \
            (void)w;                                                                                        \
            __asm__ volatile(BNNCC_LIF_FOUR_##LEVEL(LEAK, FIRES, RESET, "0", "2")                           \
                             BNNCC_LIF_FOUR_##LEVEL(LEAK, FIRES, RESET, "4", "6")                           \
                             BNNCC_LIF_FOUR_##LEVEL(LEAK, FIRES, RESET, "8", "10")                          \
                             BNNCC_LIF_FOUR_##LEVEL(LEAK, FIRES, RESET, "12", "14")                         \
                             : [x] "+&r"(from), [m] "+&r"(to), [word] "+&r"(bits), [y] "=&r"(y),            \
                               [v] "=&r"(v), [w] "=&r"(w), [t] "=&r"(t), [r] "=&r"(r)                       \
                                   BNNCC_LIF_MORE_##LEVEL                                                   \
                             : BNNCC_LIF_LAST_##LEVEL [ones] "r"(0x00020001)                                \
                               BNNCC_LIF_GIVEN_##LEAK BNNCC_LIF_SET_##RESET                                 \
                             : "cc", "memory");                                                             \
            *spikes++ = (uint16_t)(bits | bits >> 16);                                                      \
        }                                                                                                   \
        word = at % 32 ? words[at / 32] & 0xffffu : 0;                                                      \
    }

#define BNNCC_LIF_ASM32_LEAK(u, v) "smmlar " u ", " v ", %[factor], " u "\n\t"
#define BNNCC_LIF_ASM32_KEEP(u, v) ""
#define BNNCC_LIF_ASM32_SUBTRACT_GT(u, l, bit) \
    "itt gt\n\tsubgt " u ", " u ", " l "\n\torrgt %[word], %[word], #" bit "\n\t"
#define BNNCC_LIF_ASM32_SUBTRACT_GE(u, l, bit) \
    "itt ge\n\tsubge " u ", " u ", " l "\n\torrge %[word], %[word], #" bit "\n\t"
#define BNNCC_LIF_ASM32_SET_GT(u, l, bit) "itt gt\n\tmovgt " u ", %[set]\n\torrgt %[word], %[word], #" bit "\n\t"
#define BNNCC_LIF_ASM32_SET_GE(u, l, bit) "itt ge\n\tmovge " u ", %[set]\n\torrge %[word], %[word], #" bit "\n\t"
#define BNNCC_LIF_ASM32_LEVEL_ALL ""
#define BNNCC_LIF_ASM32_LEVEL_EACH "ldrd %[l], %[k], [%[levels]], #8\n\t"
#define BNNCC_LIF_SECOND_ALL "%[l]"
#define BNNCC_LIF_SECOND_EACH "%[k]"
#define BNNCC_LIF_ONE32(LEAK, FIRES, RESET, u, v, l, bit)                         \
    "add " u ", " u ", " v "\n\t"                                                 \
    "ssat " u ", #31, " u "\n\t" BNNCC_LIF_ASM32_##LEAK(u, v) "cmp " u ", " l "\n\t" \
    BNNCC_LIF_ASM32_##RESET##_##FIRES(u, l, bit)
#define BNNCC_LIF_TWO32(LEAK, FIRES, RESET, LEVEL, one, other)                                              \
    "ldrd %[y], %[z], [%[x]], #8\n\t"                                                                       \
    "ldrd %[v], %[w], [%[m]]\n\t" BNNCC_LIF_ASM32_LEVEL_##LEVEL                                             \
    BNNCC_LIF_ONE32(LEAK, FIRES, RESET, "%[y]", "%[v]", "%[l]", one)                                        \
    BNNCC_LIF_ONE32(LEAK, FIRES, RESET, "%[z]", "%[w]", BNNCC_LIF_SECOND_##LEVEL, other)                    \
    "strd %[y], %[z], [%[m]], #8\n\t"
#define BNNCC_LIF_MORE32_ALL
#define BNNCC_LIF_MORE32_EACH , [levels] "+&r"(levels), [l] "=&r"(l), [k] "=&r"(k)
#define BNNCC_LIF_SET32_SUBTRACT
#define BNNCC_LIF_SET32_SET , [set] "r"(reset)
#define BNNCC_LIF_GIVEN32_LEAK , [factor] "r"(factor)
#define BNNCC_LIF_GIVEN32_KEEP

/* Eight neurons. */
#define BNNCC_LIF_DSP32(LEAK, FIRES, RESET, LEVEL)                                                          \
    {                                                                                                       \
        const int32_t *from = x, *levels = level;                                                           \
        int32_t *to = membrane;                                                                             \
        uint8_t *spikes = (uint8_t *)words;                                                                 \
        int32_t l = level[0], k;                                                                            \
        (void)levels;                                                                                       \
        (void)k;                                                                                            \
        for (; at + 8 <= count; at += 8) {                                                                  \
            uint32_t bits = 0;                                                                              \
            int32_t y, z, v, w;                                                                             \
            __asm__ volatile(BNNCC_LIF_TWO32(LEAK, FIRES, RESET, LEVEL, "1", "2")                           \
                             BNNCC_LIF_TWO32(LEAK, FIRES, RESET, LEVEL, "4", "8")                           \
                             BNNCC_LIF_TWO32(LEAK, FIRES, RESET, LEVEL, "16", "32")                         \
                             BNNCC_LIF_TWO32(LEAK, FIRES, RESET, LEVEL, "64", "128")                        \
                             : [x] "+&r"(from), [m] "+&r"(to), [word] "+&r"(bits), [y] "=&r"(y),            \
                               [z] "=&r"(z), [v] "=&r"(v), [w] "=&r"(w) BNNCC_LIF_MORE32_##LEVEL            \
                             : BNNCC_LIF_LAST_##LEVEL [dummy] "r"(0)                                        \
                               BNNCC_LIF_GIVEN32_##LEAK BNNCC_LIF_SET32_##RESET                             \
                             : "cc", "memory");                                                             \
            *spikes++ = (uint8_t)bits;                                                                      \
        }                                                                                                   \
        word = at % 32 ? words[at / 32] & ((1u << at % 32) - 1u) : 0;                                       \
    }
#else
#define BNNCC_LIF_DSP16(LEAK, FIRES, RESET, LEVEL)
#define BNNCC_LIF_DSP32(LEAK, FIRES, RESET, LEVEL)
#endif

/* Functions of the kinds that are asked for: W 16 or 32, T int16_t or int32_t. */
#define BNNCC_FIXED_LIF(NAME, W, T, LIMIT, LEAK, FIRES, RESET, LEVEL)                                       \
    static void NAME(const T *x, T *membrane, const T *level, int32_t factor, int32_t reset, int32_t count, \
                     uint32_t *words)                                                                       \
    {                                                                                                       \
        uint32_t word = 0;                                                                                  \
        int32_t at = 0, value;                                                                              \
        (void)factor;                                                                                       \
        (void)reset;                                                                                        \
        BNNCC_LIF_DSP##W(LEAK, FIRES, RESET, LEVEL)                                                         \
        for (; at < count; ++at) {                                                                          \
            BNNCC_LIF_PLAIN(LIMIT, BNNCC_LIF_##LEAK##W(membrane[at]), FIRES, RESET, LEVEL)                  \
            membrane[at] = (T)value;                                                                        \
        }                                                                                                   \
    }

#endif /* BNNCC_FIXED_LIF_H */
