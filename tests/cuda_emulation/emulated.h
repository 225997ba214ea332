/* How a test asks for the order in which the emulator runs blocks and threads: 0 forward, 1 reverse, others shuffled by
 * that number. */
#ifndef SUMIX_EMULATED_H
#define SUMIX_EMULATED_H

#ifdef __cplusplus
extern "C"
#endif
    void sumix_emulated_order(int order);

#endif
