/* SPDX-License-Identifier: MIT */
/*
 * snippets_x86.S - pieces of guest code that a list of operations (guest_x86.S) cannot say, each run at the address it is copied
 * to. MARKER is a word of RAM that they leave word in.
 */
#define MARKER 0x300000

    .section .rodata
#define BEGIN(name) .globl x86_##name; .globl x86_##name##_end; .balign 16; x86_##name:
#define END(name) x86_##name##_end:

/* A store at %ebx and a halt in one block; after the halt, a mark. */
    .code32
BEGIN(store_and_halt)
    movl %eax, (%ebx)
    hlt
    movl $1, MARKER
    hlt
END(store_and_halt)

/* A store at %ebx, then code at %ecx. */
BEGIN(store_and_jump)
    movl %eax, (%ebx)
    jmp *%ecx
END(store_and_jump)

/* Leaves 7. */
BEGIN(mark)
    movl $7, MARKER
    hlt
END(mark)

/* %ecx short blocks, then a halt in a block of its own; after it, a mark. */
BEGIN(count_and_halt)
1:  decl %ecx
    jnz 1b
    hlt
    movl $1, MARKER
    hlt
END(count_and_halt)

/* Two blocks %ecx times, counted in %edx, then a halt. */
BEGIN(two_blocks)
1:  incl %edx
    jmp 2f
    nop
2:  decl %ecx
    jnz 1b
    hlt
END(two_blocks)

/* The same as before in 16-bit code, %cx blocks of inner loops; it halts behind the mark. Position-independent, %ds is 0. */
    .code16
BEGIN(count16)
1:  decw %cx
    jnz 1b
    movw $0x1234, 0x5000
    hlt
END(count16)
    .code32

/* Calls code at %ebx, changes the immediate operand of its first instruction to 2, and calls again: %eax is what it leaves. */
BEGIN(patch)
    movl %edi, %edx
    addl $(1f - x86_patch), %edx
    jmp *%ebx
1:  movb $2, 1(%ebx)
    movl %edi, %edx
    addl $(2f - x86_patch), %edx
    jmp *%ebx
2:  movl %eax, MARKER
    hlt
END(patch)

BEGIN(patched)
    movl $1, %eax
    jmp *%edx
END(patched)

/* One more, %ecx times, with what makes it atomic among processors. */
BEGIN(lock_inc)
1:  lock incl (%ebx)
    decl %ecx
    jnz 1b
    hlt
END(lock_inc)
    .section .note.GNU-stack, "", @progbits
