/* SPDX-License-Identifier: MIT */
/*
 * unicorn.c - the rungs unicorn and uc_mem: Unicorn Engine as Debian has it, an x86-64 guest.
 *
 * Invariant: the engine maps the same regions at the same addresses, MMIO answered by the same callbacks through its
 * uc_mmio_map(), RAM by uc_mem_map_ptr() of the same memory. For unicorn a guest loop draws what loops.h draws, instruction for
 * instruction: once translated it is the engine's fast path, and what a user gets who emulates with it. Its cost holds the
 * loop itself, as that of every rung does. For uc_mem the host asks.
 *
 * An engine is of one thread. Beyond some thousand regions a change takes it milliseconds, and 2.0.1 ends the process at
 * about 4,096: hence n_max.
 */
#include "rungs/loops.h"

#include <unicorn/unicorn.h>

#define CODE_BASE UINT64_C(0x1000)
#define CODE_SIZE 0x1000

/*
 * r8 state, r9 mask, cl shift, r10 accesses left, r11 sum read, r12 sum drawn, r13 MAP_BASE, r14 and r15 the generator's
 * constants. The shift by 16 is that of MAP_STRIDE.
 */
#define GUEST_LOOP(name, access) \
    __asm__(".pushsection .rodata\n" \
            ".balign 16\n" \
            "guest_" name "_begin:\n" \
            "1:  imul %r14, %r8\n" \
            "    add %r15, %r8\n" \
            "    mov %r8, %rax\n" \
            "    shr $33, %rax\n" \
            "    mov %rax, %rbx\n" \
            "    and %r9, %rbx\n" \
            "    shl %cl, %rbx\n" \
            "    add %rbx, %r12\n" \
            "    mov %ebx, %esi\n" \
            "    shl $16, %rbx\n" \
            "    add %r13, %rbx\n" \
            "    shr $20, %rax\n" \
            "    and $0xff8, %eax\n" \
            access \
            "    dec %r10\n" \
            "    jnz 1b\n" \
            "guest_" name "_end:\n" \
            ".popsection\n"); \

GUEST_LOOP("loads", "    mov (%rbx, %rax), %edx\n    add %rdx, %r11\n")
GUEST_LOOP("chain", "    mov (%rbx, %rax), %edx\n    add %rdx, %r11\n    add %rdx, %r8\n")
GUEST_LOOP("stores", "    mov %esi, (%rbx, %rax)\n")

extern const uint8_t guest_loads_begin[], guest_loads_end[], guest_chain_begin[], guest_chain_end[];
extern const uint8_t guest_stores_begin[], guest_stores_end[];

typedef struct Engine {
    uc_engine *uc;
    Map *map;
    uint64_t code_end; /* where the next piece of code goes */
    uint64_t loads, loads_end, chain, chain_end, stores, stores_end;
} Engine;

static uint64_t mmio_read(uc_engine *uc, uint64_t offset, unsigned size, void *user)
{
    Device *device = user;

    (void)uc;
    return device->ops->read(&device->mr, offset, size);
}

static void mmio_write(uc_engine *uc, uint64_t offset, unsigned size, uint64_t value, void *user)
{
    Device *device = user;

    (void)uc;
    device->ops->write(&device->mr, offset, value, size);
}

static bool map_region(Engine *e, size_t i, uint64_t addr, uint64_t size)
{
    Device *device = &e->map->devices[i];

    if (e->map->ram) {
        return uc_mem_map_ptr(e->uc, addr, size, UC_PROT_READ | UC_PROT_WRITE,
                              (uint8_t *)e->map->ram + i * MAP_SIZE) == UC_ERR_OK;
    }
    return uc_mmio_map(e->uc, addr, size, mmio_read, device, mmio_write, device) == UC_ERR_OK;
}

static uint64_t put_code(Engine *e, const uint8_t *begin, const uint8_t *end, uint64_t *ret_end)
{
    uint64_t at = e->code_end;

    bench_check(uc_mem_write(e->uc, at, begin, (size_t)(end - begin)) == UC_ERR_OK);
    *ret_end = at + (uint64_t)(end - begin);
    e->code_end = (*ret_end + 64) & ~UINT64_C(63);
    return at;
}

static void *engine_open(Map *map)
{
    Engine *e = bench_alloc(1, sizeof(*e));
    size_t i;

    e->map = map;
    e->code_end = CODE_BASE;
    bench_check(uc_open(UC_ARCH_X86, UC_MODE_64, &e->uc) == UC_ERR_OK);
    bench_check(uc_mem_map(e->uc, CODE_BASE, CODE_SIZE, UC_PROT_ALL) == UC_ERR_OK);
    for (i = 0; i < map->n; i++) {
        bench_check(map_region(e, i, map_addr(i), MAP_SIZE));
    }
    e->loads = put_code(e, guest_loads_begin, guest_loads_end, &e->loads_end);
    e->chain = put_code(e, guest_chain_begin, guest_chain_end, &e->chain_end);
    e->stores = put_code(e, guest_stores_begin, guest_stores_end, &e->stores_end);
    return e;
}

static void engine_close(void *self)
{
    Engine *e = self;

    bench_check(uc_close(e->uc) == UC_ERR_OK);
    free(e);
}

static uint64_t run_guest(Loop *loop, uint64_t n, uint64_t code, uint64_t end)
{
    static const int names[] = {UC_X86_REG_R8,  UC_X86_REG_R9,  UC_X86_REG_RCX, UC_X86_REG_R10, UC_X86_REG_R11,
                                UC_X86_REG_R12, UC_X86_REG_R13, UC_X86_REG_R14, UC_X86_REG_R15};
    enum { STATE, MASK, SHIFT, LEFT, GOT, DRAWN, BASE, FACTOR, ADDEND, REGISTERS };
    uint64_t values[REGISTERS] = {
        [STATE] = loop->state,
        [MASK] = loop->mask,
        [SHIFT] = loop->shift,
        [LEFT] = n,
        [BASE] = MAP_BASE,
        [FACTOR] = BENCH_RANDOM_FACTOR,
        [ADDEND] = BENCH_RANDOM_ADDEND,
    };
    Engine *e = loop->self;
    int i;

    for (i = 0; i < REGISTERS; i++) {
        bench_check(uc_reg_write(e->uc, names[i], &values[i]) == UC_ERR_OK);
    }
    bench_check(uc_emu_start(e->uc, code, end, 0, 0) == UC_ERR_OK);
    for (i = 0; i < REGISTERS; i++) {
        bench_check(uc_reg_read(e->uc, names[i], &values[i]) == UC_ERR_OK);
    }
    bench_check(values[LEFT] == 0 && (values[GOT] == values[DRAWN] || code == e->stores));
    loop->state = values[STATE];
    return values[GOT];
}

static uint64_t unicorn_loads(void *arg, uint64_t n)
{
    Loop *loop = arg;
    Engine *e = loop->self;

    return run_guest(loop, n, e->loads, e->loads_end);
}

static uint64_t unicorn_chain(void *arg, uint64_t n)
{
    Loop *loop = arg;
    Engine *e = loop->self;

    return run_guest(loop, n, e->chain, e->chain_end);
}

static uint64_t unicorn_stores(void *arg, uint64_t n)
{
    Loop *loop = arg;
    Engine *e = loop->self;

    return run_guest(loop, n, e->stores, e->stores_end);
}

static inline bool uc_mem_load(void *self, uint64_t i, uint64_t offset, uint32_t *ret)
{
    Engine *e = self;

    return uc_mem_read(e->uc, map_addr(i) + offset, ret, 4) == UC_ERR_OK;
}

static inline bool uc_mem_store(void *self, uint64_t i, uint64_t offset, uint32_t value)
{
    Engine *e = self;

    return uc_mem_write(e->uc, map_addr(i) + offset, &value, 4) == UC_ERR_OK;
}

static bool engine_probe(void *self, uint64_t addr, uint32_t *ret)
{
    return uc_mem_load(self, 0, addr - map_addr(0), ret);
}

static bool engine_change(void *self, RungChange change, size_t i, bool back)
{
    RungPlace from = rung_place(change, i, !back), to = rung_place(change, i, back);
    Engine *e = self;

    return (!from.there || uc_mem_unmap(e->uc, from.first, from.last - from.first + 1) == UC_ERR_OK) &&
           (!to.there || map_region(e, i, to.first, to.last - to.first + 1));
}

DEFINE_LOOPS(uc_mem)

const Rung rung_unicorn = {
    .name = "unicorn",
    .n_max = 1024,
    .grows = true,
    .open = engine_open,
    .close = engine_close,
    .loads = unicorn_loads,
    .chain = unicorn_chain,
    .stores = unicorn_stores,
    .probe = engine_probe,
    .change = engine_change,
};

const Rung rung_uc_mem = {
    .name = "uc_mem",
    .n_max = 1024,
    .grows = true,
    .open = engine_open,
    .close = engine_close,
    .loads = uc_mem_loads,
    .chain = uc_mem_chain,
    .stores = uc_mem_stores,
};
