/* Runs the golden inputs again and again, and prints the least CPU time of one, in microseconds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "snnc_network.h"
#include "golden.h"

int main(int count, char **words)
{
    static snnc_state state;
    int32_t y[SNNC_OUTPUTS];
    const int rounds = count > 1 ? atoi(words[1]) : 10;
    clock_t least = 0;
    for (int round = 0; round < rounds; round++) {
        const clock_t begin = clock();
        for (int32_t row = 0; row < GOLDEN_ROWS; row++) {
            if (!snnc_infer(&state, golden_q + row * SNNC_INPUTS, SNNC_TIMESTEPS, y)) {
                return 1;
            }
        }
        const clock_t taken = clock() - begin;
        least = round == 0 || taken < least ? taken : least;
    }
    printf("%.1f\n", (double)least * 1e6 / CLOCKS_PER_SEC / GOLDEN_ROWS);
    return 0;
}
