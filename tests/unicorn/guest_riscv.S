/* SPDX-License-Identifier: MIT */
/*
 * guest_riscv.S - the guest of guest_x86.S for RISC-V (rv64ima, machine mode): a list of operations at a0, 16 bytes each, as
 * struct Op has them. At its end it waits for an interrupt that does not come. Assembled by itself, embedded as it is.
 */
    .option norelax
    .option norvc
next:
    lwu t0, 0(a0)
    lwu t1, 4(a0)       /* address */
    lwu t2, 8(a0)       /* value */
    lwu t3, 12(a0)      /* count */
    li t4, 1
    beq t0, t4, load32
    li t4, 2
    beq t0, t4, store32
    li t4, 3
    beq t0, t4, load8
    li t4, 4
    beq t0, t4, store8
    li t4, 5
    beq t0, t4, load16
    li t4, 6
    beq t0, t4, store16
    li t4, 7
    beq t0, t4, hammer
    li t4, 11
    beq t0, t4, expect
    li t4, 12
    beq t0, t4, series
    li t4, 13
    beq t0, t4, amo
    li t4, 14
    beq t0, t4, lrsc
    li t4, 15
    beq t0, t4, load64
    li t4, 16
    beq t0, t4, store64
end:
    wfi
    j end

load32:
    lwu t2, 0(t1)
    j answer
store32:
    sw t2, 0(t1)
    j done
load8:
    lbu t2, 0(t1)
    j answer
store8:
    sb t2, 0(t1)
    j done
load16:
    lhu t2, 0(t1)
    j answer
store16:
    sh t2, 0(t1)
    j done
load64:                 /* the upper half into the count */
    ld t2, 0(t1)
    srli t3, t2, 32
    sw t3, 12(a0)
    j answer
store64:
    slli t3, t3, 32
    or t2, t2, t3
    sd t2, 0(t1)
    j done

hammer:                 /* count times: store, load, compare; value becomes the number of differences */
    li t2, 0
1:  sw t3, 0(t1)
    lwu t4, 0(t1)
    beq t3, t4, 2f
    addi t2, t2, 1
2:  addi t3, t3, -1
    bnez t3, 1b
    j answer

expect:                 /* count times: load; value becomes the number of loads that gave neither value nor ones */
    li t5, 0
    lwu t6, 8(a0)
1:  lwu t4, 0(t1)
    beq t4, t6, 2f
    addiw t4, t4, 1
    beqz t4, 2f
    addi t5, t5, 1
2:  addi t3, t3, -1
    bnez t3, 1b
    mv t2, t5
    j answer

series:                 /* store value, value + 1, ... count times to the same place */
1:  sw t2, 0(t1)
    addiw t2, t2, 1
    addi t3, t3, -1
    bnez t3, 1b
    j done

amo:                    /* count times: add value, atomically */
1:  amoadd.w zero, t2, (t1)
    addi t3, t3, -1
    bnez t3, 1b
    j done

lrsc:                   /* the same with a reservation */
1:  lr.w t4, (t1)
    add t4, t4, t2
    sc.w t5, t4, (t1)
    bnez t5, 1b
    addi t3, t3, -1
    bnez t3, 1b
    j done

answer:
    sw t2, 8(a0)
done:
    addi a0, a0, 16
    j next
