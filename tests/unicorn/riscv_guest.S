/* SPDX-License-Identifier: MIT */
/* riscv_guest.S - the guest of guest_riscv.S, assembled and linked for its place, as bytes. */
    .section .rodata
    .globl riscv_guest_begin, riscv_guest_end
    .balign 16
riscv_guest_begin:
    .incbin RISCV_GUEST
riscv_guest_end:
    .section .note.GNU-stack, "", @progbits
