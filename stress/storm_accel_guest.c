/* SPDX-License-Identifier: MIT */
/*
 * storm_accel_guest.c - a guest that carries out one access at a time.
 *
 * Invariant: the code writes nothing but what it is told to write and the value in its vCPU's page; it reads its page, its own
 * instructions and what it is told to read. So its code page may be read-only, and only a vCPU that is not held while its
 * code is replaced can fail.
 */
#include "storm_accel.h"

#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
/* clang-format off */
__asm__(
    ".pushsection .rodata\n"
    ".globl storm_guest_code, storm_guest_code_end\n"
    ".hidden storm_guest_code, storm_guest_code_end\n"
    ".code32\n"
    "storm_guest_code:\n"
    "1:  movl 12(%ebx), %ecx\n"  /* spin */
    "2:  subl $1, %ecx\n"
    "    jns 2b\n"
    "    movl (%ebx), %eax\n"
    "    movl 4(%ebx), %esi\n"
    "    movl 8(%ebx), %edx\n"
    "    cmpl $1, %eax\n"
    "    je 11f\n"
    "    cmpl $2, %eax\n"
    "    je 12f\n"
    "    cmpl $4, %eax\n"
    "    je 14f\n"
    "    cmpl $9, %eax\n"
    "    je 21f\n"
    "    cmpl $10, %eax\n"
    "    je 22f\n"
    "    movl %edx, (%esi)\n"
    "    jmp 4f\n"
    "11: movzbl (%esi), %edx\n"
    "    jmp 3f\n"
    "12: movzwl (%esi), %edx\n"
    "    jmp 3f\n"
    "14: movl (%esi), %edx\n"
    "3:  movl %edx, 8(%ebx)\n"
    "    jmp 4f\n"
    "21: movb %dl, (%esi)\n"
    "    jmp 4f\n"
    "22: movw %dx, (%esi)\n"
    "4:  hlt\n"
    "    jmp 1b\n"
    "storm_guest_code_end:\n"
    ".popsection\n"
#if defined(__x86_64__)
    ".code64\n"
#endif
);
/* clang-format on */
#else
const char storm_guest_code[1] = "", storm_guest_code_end[1] = ""; /* accelerators here have guests of another kind */
#endif

/* Going round keeps it in its code, where a commit may meet it. */
#define SPIN_MASK 0xfffu

void guest_tell(GuestOp *page, const Access *a)
{
    uint32_t value = 0, spin = (page->spin * 1103515245u + 12345u) & SPIN_MASK;

    if (a->is_write) {
        memcpy(&value, a->data, a->len);
    }
    *page = (GuestOp){ .what = a->len | (a->is_write ? 8 : 0), .addr = (uint32_t)a->addr, .value = value, .spin = spin };
}

void guest_ask(const GuestOp *page, Access *a)
{
    uint32_t value = page->value;

    if (!a->is_write) {
        memcpy(a->data, &value, a->len);
    }
}
