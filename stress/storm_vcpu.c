/* SPDX-License-Identifier: MIT */
/*
 * storm_vcpu.c - which accesses: what guests do, and what they should not.
 *
 * Most go where something is: to ranges sampled from a view pinned not long ago, to their edges and across them. The
 * rest goes to holes, to nowhere and to the end of the space. Often several in a row go to one page, as guests' do, so
 * that the thread's cache of its last range is in use when the view changes under it.
 *
 * Invariant: a write where memory may be hits only scratch bytes of this thread, whatever is mapped there by then.
 * Accesses come in batches under one hold_history(), so the fence that this costs does not order every access for free.
 */
#include "storm_accel.h"

#include <string.h>

#define SAMPLES 48
#define BATCH 32
#define BATCHES_PER_SAMPLE 8

typedef struct Sample {
    StormSpace *space;
    FlatView *view; /* keeps what at[] names */
    MemoryRegionSection at[SAMPLES];
    size_t n, seen;
    StormThread *thread;
} Sample;

/* Reservoir sampling: each range of the view is as likely as any other. */
static int take_sample(const MemoryRegionSection *section, void *arg)
{
    Sample *s = arg;
    size_t i = s->seen++;

    if (i >= SAMPLES) {
        i = storm_below(s->thread, s->seen);
    } else {
        s->n++;
    }
    if (i < SAMPLES) {
        s->at[i] = *section;
    }
    return 0;
}

static void sample(Sample *s, StormThread *t)
{
    flatview_unref(s->view);
    s->space = storm.spaces[storm_chance(t, 2) ? 0 : storm_below(t, storm.n_spaces)];
    if (accel_space() && storm_chance(t, 2)) {
        s->space = accel_space();
    }
    s->view = address_space_get_flatview(s->space->as);
    s->n = s->seen = 0;
    s->thread = t;
    flatview_for_each_range(s->view, 0, UINT64_MAX, take_sample, s);
}

static hwaddr within(StormThread *t, const MemoryRegionSection *s)
{
    hwaddr span = s->last - s->offset_within_address_space;

    switch (storm_below(t, 4)) {
    case 0:
        return s->offset_within_address_space + (span < 64 ? storm_below(t, span + 1) : storm_below(t, 8) * 8);
    case 1:
        return s->last - storm_below(t, (span < 64 ? span : 64) + 1);
    default:
        return s->offset_within_address_space + (span == UINT64_MAX ? storm_random(t) : storm_below(t, span + 1));
    }
}

/* An address in a stamped page of a range of memory; false if it shows none. */
static bool stamped(StormThread *t, const MemoryRegionSection *s, hwaddr *ret_addr)
{
    const Backing *b = backing_of(s->mr);
    uint64_t first = s->offset_within_region, last = first + (s->last - s->offset_within_address_space);
    size_t low = 0, high = b->n_pages, end;
    uint64_t offset;

    if (b->all_pages) {
        *ret_addr = within(t, s);
        return true;
    }
    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (b->pages[mid] < (first & ~(uint64_t)(STORM_PAGE - 1))) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    for (end = low; end < b->n_pages && end < low + 256 && b->pages[end] <= last; end++) {
    }
    if (low == end) {
        return false;
    }
    offset = b->pages[low + storm_below(t, end - low)] + storm_below(t, STORM_PAGE);
    offset = offset < first ? first : offset > last ? last : offset;
    *ret_addr = s->offset_within_address_space + (offset - first);
    return true;
}

/* Where to; and whether something is there, so that it makes sense to stay for a while. */
static bool choose(StormThread *t, const Sample *s, hwaddr *ret_addr, bool *ret_stay)
{
    uint64_t dice = storm_below(t, 100);
    const MemoryRegionSection *r;
    hwaddr addr;

    *ret_stay = false;
    if (!s->n || dice < 8) {
        addr = storm_random(t) >> storm_below(t, 64);
    } else if (dice < 9) {
        addr = UINT64_MAX - storm_below(t, 24);
    } else {
        r = &s->at[storm_below(t, s->n)];
        *ret_stay = true;
        if (dice < 20) {
            addr =
                storm_chance(t, 2) ? r->offset_within_address_space - storm_below(t, 9) : r->last + storm_below(t, 9);
        } else if (backing_of(r->mr)->kind != BACKING_IO) {
            return stamped(t, r, ret_addr);
        } else {
            addr = within(t, r);
        }
    }
    *ret_addr = addr;
    return true;
}

/* Would it touch memory that carries no stamps? Each such page costs a fault; a look is all it gets. */
static bool is_bare_memory(StormSpace *space, hwaddr addr)
{
    MemoryRegionSection s;
    bool bare = false;

    memory_read_begin();
    if (flatview_find(address_space_current(space->as), addr, &s)) {
        const Backing *b = backing_of(s.mr);

        bare = b->kind != BACKING_IO &&
               !backing_has_page(b, s.offset_within_region + (addr - s.offset_within_address_space));
    }
    memory_read_end();
    return bare;
}

static void to_scratch(StormThread *t, Access *a)
{
    unsigned lines = 64 / storm.n_threads;
    uint64_t line = t->index + storm_below(t, lines) * storm.n_threads;
    unsigned skip = (unsigned)storm_below(t, 9 - a->len);

    a->addr =
        (a->addr & ~(uint64_t)(STORM_PAGE - 1)) | line << 6 | SCRATCH_MASK | (a->typed ? skip & ~(a->len - 1) : skip);
}

static void one_access(StormThread *t, StormSpace *space, hwaddr addr)
{
    Access a = { .addr = addr, .typed = !storm_chance(t, 3), .big_endian = storm_chance(t, 3) };

    a.is_write = storm_chance(t, 3) && (storm.memory_aligned || !space->has_memory);
    if (a.typed || (a.is_write && space->has_memory)) {
        a.len = 1u << storm_below(t, 4);
    } else {
        a.len = 1 + (unsigned)storm_below(t, storm_chance(t, 2) ? ACCESS_MAX : 16);
    }
    if (!accel_take(t, space, &a) && a.typed && !storm_chance(t, 4)) {
        a.addr &= ~(hwaddr)(a.len - 1);
    }
    if (a.is_write) {
        for (unsigned i = 0; i < a.len; i += 8) {
            uint64_t word = storm_random(t);

            memcpy(a.data + i, &word, 8);
        }
        if (space->has_memory) {
            to_scratch(t, &a);
            if (is_bare_memory(space, a.addr)) {
                return; /* beside a device that covers less than a page */
            }
        }
    }
    if (t->accesses % 16 == 0 && !a.is_write) {
        uint64_t start = storm_clock_ns();
        uint32_t value;
        MemTxResult ignored = address_space_ldl_le(space->as, a.addr, MEMTXATTRS_UNSPECIFIED, &value);

        /* The clock and the judge take longer than an access: time one in sixteen, without the judge. */
        histogram_add(&t->access_ns, storm_clock_ns() - start);
        (void)ignored;
    }
    storm_access(t, space, &a);
}

static void batch(StormThread *t, Sample *s)
{
    hwaddr addr = 0, last = 0;
    unsigned same_page = 0;
    bool stay;

    hold_history(t);
    for (unsigned i = 0; i < BATCH && !storm_stopping(); i++) {
        if (same_page) {
            same_page--;
            addr = (last & ~(hwaddr)(STORM_PAGE - 1)) | storm_below(t, STORM_PAGE);
        } else if (!choose(t, s, &addr, &stay)) {
            storm_translate(t, s->space, s->at[storm_below(t, s->n)].offset_within_address_space, storm_chance(t, 2));
            continue;
        } else if (stay && storm_chance(t, 4)) {
            same_page = 6;
        }
        last = addr;
        if (storm_chance(t, 16) || is_bare_memory(s->space, addr)) {
            storm_translate(t, s->space, addr, storm_chance(t, 2));
        } else {
            one_access(t, s->space, addr);
        }
    }
    drop_history(t);
}

/* A write to its registers moves them: a commit from inside an access. Only when its own vCPU writes. */
static void own_written(Backing *b)
{
    StormThread *t = storm_self;
    HotDevice *d = t->own;
    int error;

    if (!d || b != &d->at[HOT_REGS].backing || t->depth != 1 || history_is_long(2)) {
        return;
    }
    error = memory_transaction_begin();
    if (!error) {
        error = memory_region_set_address(&d->at[HOT_REGS].region.mr, (16 + storm_below(t, 40)) * STORM_PAGE);
        error = error ? error : memory_region_set_enabled(&d->at[HOT_WINDOW].region.mr, storm_chance(t, 2));
        if (error) {
            memory_transaction_abort();
        } else {
            error = memory_transaction_commit();
        }
    }
    if (error) {
        storm_violation("a commit inside a callback: %s", strerror(-error));
    }
    storm_count(&t->commits);
}

bool vcpu_init(StormThread *t)
{
    uint64_t room = memory_region_size(storm.plug_places[0]), place = UINT64_C(0xc0000000);

    place = (room > UINT64_C(1) << 32 ? place : room / 2 / STORM_PAGE * STORM_PAGE) + t->index * 80ull * STORM_PAGE;
    t->own = hot_new(MODEL_PLAIN, STORM_PAGE, false);
    if (!t->own || hot_plug(t->own, storm.plug_places[0], place, 1000) != 0) {
        return false;
    }
    t->own->at[HOT_REGS].backing.written = own_written;
    return true;
}

void *vcpu_main(void *arg)
{
    StormThread *t = storm_self = arg;
    Sample s = { .view = NULL };
    uint64_t turn;

    if (memory_thread_register() < 0) {
        storm_violation("a thread cannot be registered");
        return NULL;
    }
    for (turn = 0; !storm_stopping(); turn++) {
        if (turn % BATCHES_PER_SAMPLE == 0) {
            sample(&s, t);
        }
        batch(t, &s);
        for (unsigned i = 0; i < 8; i++) {
            pairs_access(t);
        }
        if (t->own && storm_chance(t, 4)) {
            hwaddr addr;
            Access a = { .len = 4, .is_write = true, .typed = true };

            /* The guest programs a BAR: the callback moves it, from inside this very access. */
            addr = memory_region_get_addr(&t->own->at[HOT_BOX].region.mr);
            a.addr = addr + memory_region_get_addr(&t->own->at[HOT_REGS].region.mr);
            to_scratch(t, &a);
            hold_history(t);
            storm_access(t, storm.spaces[0], &a);
            drop_history(t);
        }
        if (storm_chance(t, 64)) {
            memory_thread_offline();
            memory_thread_online();
        }
    }
    flatview_unref(s.view);
    memory_thread_unregister();
    return NULL;
}
