/* Counts the instructions that a Cortex-M4 runs for an image, in QEMU with -icount shift=0: an instruction takes a
   nanosecond of virtual time there, and timer 0 of the mps2-an386 (CMSDK APB timer, 25 MHz) ticks every 40 of them. */
#include <stdio.h>

#include "snnc_network.h"
#include "golden.h"

#define CONTROL (*(volatile uint32_t *)0x40000000)
#define VALUE (*(volatile uint32_t *)0x40000004)
#define RELOAD (*(volatile uint32_t *)0x40000008)
#define PER_TICK 40u
#define KNOWN 1000000u

int main(void)
{
    static snnc_state state;
    static int32_t y[SNNC_OUTPUTS];
    RELOAD = 0xFFFFFFFFu;
    VALUE = 0xFFFFFFFFu;
    CONTROL = 1;

    /* A loop of two instructions, to see that the clock counts instructions. */
    uint32_t left = KNOWN;
    uint32_t before = VALUE;
    __asm__ volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(left) : : "cc");
    printf("known %lu of %lu\n", (unsigned long)((before - VALUE) * PER_TICK), (unsigned long)(2 * KNOWN));

    for (int32_t row = 0; row < GOLDEN_ROWS; row++) {
        before = VALUE;
        if (!snnc_infer(&state, golden_q + row * SNNC_INPUTS, SNNC_TIMESTEPS, y)) {
            return 1;
        }
        /* Nothing else runs, and 2^32 ticks are 172 thousand million instructions. */
        const uint32_t ticks = before - VALUE;
        int wrong = 0;
        for (int32_t k = 0; k < SNNC_OUTPUTS; k++) {
            wrong |= y[k] != golden_y[row * SNNC_OUTPUTS + k];
        }
        printf("image %lu %s\n", (unsigned long)ticks, wrong ? "WRONG" : "right");
    }
    return 0;
}
