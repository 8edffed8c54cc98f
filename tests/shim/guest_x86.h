/* SPDX-License-Identifier: MIT */
/*
 * guest_x86.h - what the guest of guest_x86.S can be told to do.
 */
#ifndef FLATVIEW_TESTS_GUEST_X86_H
#define FLATVIEW_TESTS_GUEST_X86_H

#include <stdint.h>

extern "C" const char x86_guest_begin[], x86_guest_end[];

enum GuestOp : uint32_t {
    OP_END, OP_LOAD32, OP_STORE32, OP_LOAD8, OP_STORE8, OP_LOAD16, OP_STORE16, OP_HAMMER, OP_TOUCH, OP_IN8, OP_OUT8, OP_EXPECT,
    OP_SERIES,
    OP_AMO, OP_LRSC, OP_LOAD64, OP_STORE64, /* of tests/unicorn/guest_riscv.S only */
};

struct Op {
    uint32_t what, addr, value, count;
};

#endif
