/* SPDX-License-Identifier: MIT */
/*
 * guest_x86.S - a guest that does as it is told: a list of operations at %ebx, 16 bytes each: what, address, value, count. Runs in
 * flat 32-bit protected mode without paging, position-independent, without a stack.
 */
    .section .rodata
    .globl x86_guest_begin, x86_guest_end
    .balign 16
    .code32
x86_guest_begin:
next:
    movl (%ebx), %eax
    movl 4(%ebx), %esi
    movl 8(%ebx), %edx
    movl 12(%ebx), %ecx
    cmpl $0, %eax
    je end
    cmpl $1, %eax
    je load32
    cmpl $2, %eax
    je store32
    cmpl $3, %eax
    je load8
    cmpl $4, %eax
    je store8
    cmpl $5, %eax
    je load16
    cmpl $6, %eax
    je store16
    cmpl $7, %eax
    je hammer
    cmpl $8, %eax
    je touch
    cmpl $9, %eax
    je in8
    cmpl $10, %eax
    je out8
    cmpl $11, %eax
    je expect
    cmpl $12, %eax
    je series
end:
    hlt
    jmp end

load32:
    movl (%esi), %eax
    movl %eax, 8(%ebx)
    jmp done
store32:
    movl %edx, (%esi)
    jmp done
load8:
    movzbl (%esi), %eax
    movl %eax, 8(%ebx)
    jmp done
store8:
    movb %dl, (%esi)
    jmp done
load16:
    movzwl (%esi), %eax
    movl %eax, 8(%ebx)
    jmp done
store16:
    movw %dx, (%esi)
    jmp done

hammer: /* count times: store, load, compare; value becomes the number of differences */
    xorl %edx, %edx
1:  movl %ecx, (%esi)
    cmpl (%esi), %ecx
    je 2f
    incl %edx
2:  decl %ecx
    jnz 1b
    movl %edx, 8(%ebx)
    jmp done

touch: /* store value once in each of count pages */
1:  movl %edx, (%esi)
    addl $4096, %esi
    decl %ecx
    jnz 1b
    jmp done

in8:
    xchgl %edx, %esi
    inb %dx, %al
    movzbl %al, %eax
    movl %eax, 8(%ebx)
    jmp done
out8:
    movl %edx, %eax
    movl %esi, %edx
    outb %al, %dx
    jmp done

expect: /* count times: load; value becomes the number of loads that gave neither value nor ones */
    xorl %edi, %edi
1:  movl (%esi), %eax
    cmpl %edx, %eax
    je 2f
    cmpl $-1, %eax
    je 2f
    incl %edi
2:  decl %ecx
    jnz 1b
    movl %edi, 8(%ebx)
    jmp done

series: /* store value, value + 1, ... count times to the same place */
1:  movl %edx, (%esi)
    incl %edx
    decl %ecx
    jnz 1b

done:
    addl $16, %ebx
    jmp next
x86_guest_end:
    .section .note.GNU-stack, "", @progbits
