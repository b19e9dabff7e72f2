/* What a Cortex-M4 needs before main(): its vectors. The C library's own start-up code does the rest. */
#include <stdint.h>

extern uint32_t stack_top;
extern void _start(void);

static void reset(void)
{
    _start();
}

static void hang(void)
{
    for (;;) {
    }
}

typedef void (*handler)(void);
typedef struct {
    uint32_t *stack;
    handler handlers[15];
} vector_table;

extern const vector_table vectors;
__attribute__((section(".vectors"), used)) const vector_table vectors = {&stack_top, {reset, hang, hang}};
