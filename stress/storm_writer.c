/* SPDX-License-Identifier: MIT */
/*
 * storm_writer.c - transactions: committed, aborted, refused, nested; and what must hold around each.
 *
 * What is demanded, by the one thread that can know it:
 * - inside a transaction, accesses still see the published view, and a staged look-up sees the tree as it is being
 *   edited;
 * - an access right after a commit sees it (R3): judged with a history that has the commit in it;
 * - after a commit, if nobody else committed in between, the views are what the staged look-ups said;
 * - after an abort or a refusal, in the same case, every space has the very view that it had, and the tree is as it
 *   was;
 * - whenever the topology lock is ours and nothing is pending, views and tree agree.
 * "Nobody else" is the library's own count of commits, read twice under the topology lock. It does not count a
 * transaction whose changes came to nothing, so each makes one that does not: on a region of its own that is nowhere.
 */
#include "storm.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FACTS 3

typedef struct Fact {
    const StormSpace *space;
    hwaddr addr;
    bool found;
    MemoryRegionSection section;
} Fact;

/* The state of things under the lock, before a transaction changed anything, and what it promised for afterwards. */
typedef struct Before {
    uint64_t commits;
    uint64_t generation[STORM_MAX_SPACES];
    uint32_t target;
    hwaddr addr;
    uint64_t size;
    bool enabled;
    Fact facts[FACTS];
    unsigned n_facts;
} Before;

static uint64_t commits_so_far(void)
{
    MemoryStats stats;

    memory_get_stats(&stats);
    return stats.commits;
}

static uint64_t generation_of(const StormSpace *space)
{
    uint64_t generation;

    memory_read_begin();
    generation = flatview_generation(address_space_current(space->as));
    memory_read_end();
    return generation;
}

static void note_before(StormThread *t, Before *b)
{
    const Writer *w = &t->writer;

    b->commits = commits_so_far();
    b->n_facts = 0;
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        b->generation[i] = generation_of(storm.spaces[i]);
    }
    b->target = (uint32_t)storm_below(t, w->n_targets);
    if (w->n_targets) {
        MemoryRegion *mr = w->targets[b->target].mr;

        b->addr = memory_region_get_addr(mr);
        b->size = memory_region_size(mr);
        b->enabled = memory_region_is_enabled(mr);
    }
}

static void demand_unchanged(StormThread *t, const Before *b, const char *what)
{
    const Writer *w = &t->writer;

    for (unsigned i = 0; i < storm.n_spaces; i++) {
        if (generation_of(storm.spaces[i]) != b->generation[i]) {
            storm_violation("%s: after %s transaction, generation %llu is current instead of %llu",
                            storm.spaces[i]->name, what, (unsigned long long)generation_of(storm.spaces[i]),
                            (unsigned long long)b->generation[i]);
        }
    }
    if (w->n_targets) {
        MemoryRegion *mr = w->targets[b->target].mr;

        if (memory_region_get_addr(mr) != b->addr || memory_region_size(mr) != b->size ||
            memory_region_is_enabled(mr) != b->enabled) {
            storm_violation("after %s transaction, region %s is not as it was before", what, memory_region_name(mr));
        }
    }
}

static hwaddr some_mark(StormThread *t)
{
    const Writer *w = &t->writer;

    return w->n_marks ? w->marks[storm_below(t, w->n_marks)] - storm_below(t, 2)
                      : storm_random(t) >> storm_below(t, 64);
}

static const StormSpace *some_space(StormThread *t)
{
    return storm.spaces[storm_chance(t, 2) ? 0 : storm_below(t, storm.n_spaces)];
}

/* Inside the transaction: what will be, according to the tree and according to the stage. */
static void note_staged(StormThread *t, Before *b)
{
    MemoryRegionSection in_tree;

    for (unsigned i = 0; i < FACTS; i++) {
        Fact *f = &b->facts[b->n_facts];
        bool found;
        int staged;

        f->space = some_space(t);
        f->addr = some_mark(t);
        staged = address_space_find_staged(f->space->as, f->addr, &f->section);
        if (staged < 0) {
            storm_violation("%s: a staged look-up: %s", f->space->name, strerror(-staged));
            return;
        }
        f->found = staged;
        found = resolve_point(f->space->as, f->addr, &in_tree);
        if (!same_point(f->addr, found, &in_tree, f->found, &f->section)) {
            storm_violation("%s: at %llx, inside a transaction, the staged look-up and the tree differ", f->space->name,
                            (unsigned long long)f->addr);
        }
        b->n_facts++;
    }
}

static void demand_staged(const Before *b)
{
    for (unsigned i = 0; i < b->n_facts; i++) {
        const Fact *f = &b->facts[i];
        MemoryRegionSection s;
        bool found;

        memory_read_begin();
        found = flatview_find(address_space_current(f->space->as), f->addr, &s);
        if (found != f->found || (found && !section_equal(&s, &f->section))) {
            char staged[SECTION_TEXT], published[SECTION_TEXT];

            storm_violation("%s: at %llx a commit published %s, its staged look-up had said %s", f->space->name,
                            (unsigned long long)f->addr, found ? section_text(&s, published) : "nothing",
                            f->found ? section_text(&f->section, staged) : "nothing");
        }
        memory_read_end();
    }
}

typedef enum Outcome { COMMITTED, ABORTED, REFUSED } Outcome;

/* With the topology lock in hand again. */
static void look_back(StormThread *t, const Before *b, Outcome outcome)
{
    hwaddr at[2] = { some_mark(t), some_mark(t) };
    bool alone;

    if (memory_transaction_begin() != 0) {
        storm_violation("a transaction cannot begin");
        return;
    }
    alone = commits_so_far() == b->commits + (outcome == COMMITTED);
    if (alone && outcome == COMMITTED) {
        demand_staged(b);
    } else if (alone) {
        demand_unchanged(t, b, outcome == ABORTED ? "an aborted" : "a refused");
    }
    audit_space(t, some_space(t), at, 2);
    storm_count(&t->audits);
    if (memory_transaction_commit() != 0) {
        storm_violation("a transaction without changes does not commit");
    }
}

static int some_changes(StormThread *t, unsigned n)
{
    Writer *w = &t->writer;
    unsigned going, coming;
    bool keep;
    int error = 0;

    for (unsigned i = 0; i < n && !error; i++) {
        if (!storm_chance(t, 8)) {
            error = writer_mutate(t);
            continue;
        }
        going = w->going;
        coming = w->coming;
        keep = storm_chance(t, 2);
        error = memory_transaction_begin();
        if (error) {
            return error;
        }
        for (unsigned k = 0; k < 3 && !error; k++) {
            error = writer_mutate(t);
        }
        if (keep) {
            error = error ? error : memory_transaction_commit();
        } else {
            memory_transaction_abort();
            w->going = going;
            w->coming = coming;
        }
    }
    return error;
}

static Outcome finish(StormThread *t, Outcome wanted)
{
    uint64_t start;
    int error;

    if (wanted == ABORTED) {
        memory_transaction_abort();
        storm_count(&t->aborted);
        return ABORTED;
    }
    t->refuse = wanted == REFUSED ? -EPERM : 0;
    t->was_refused = false;
    start = storm_clock_ns();
    error = memory_transaction_commit();
    histogram_add(&t->commit_ns, storm_clock_ns() - start);
    t->refuse = 0;
    if (error != (t->was_refused ? -EPERM : 0)) {
        storm_violation("a commit that was%s refused returns %s", t->was_refused ? "" : " not", strerror(-error));
    }
    storm_count(error ? &t->refused : &t->commits);
    return error ? REFUSED : COMMITTED;
}

static void transact(StormThread *t)
{
    Writer *w = &t->writer;
    uint64_t dice = storm_below(t, 8);
    Outcome outcome = dice == 0 ? ABORTED : dice == 1 ? REFUSED : COMMITTED;
    unsigned n = 1 + (unsigned)storm_below(t, 1u << storm_below(t, 6));
    Before before;
    int error;

    if (memory_transaction_begin() != 0) {
        storm_violation("a transaction cannot begin");
        return;
    }
    note_before(t, &before);
    error = some_changes(t, n);
    error = error ? error : memory_region_set_nonvolatile(&w->ballast, !memory_region_is_nonvolatile(&w->ballast));
    if (error) {
        storm_violation("a change that cannot fail: %s", strerror(-error));
        while (memory_transaction_depth() > 1) {
            memory_transaction_abort();
        }
        outcome = ABORTED;
    }
    note_staged(t, &before);
    storm_peek(t, storm.spaces[0], some_mark(t), 8); /* in view of all others nothing has happened yet */
    outcome = finish(t, outcome);
    for (unsigned i = 0; i < 3; i++) {
        storm_peek(t, storm.spaces[storm_below(t, storm.n_spaces)], some_mark(t), 1u << storm_below(t, 4));
    }
    writer_settle(t, outcome == COMMITTED);
    look_back(t, &before, outcome);
    w->n_marks = 0;
}

/* Outside a transaction each call is its own. */
static void single(StormThread *t)
{
    Writer *w = &t->writer;
    int error = writer_mutate(t);

    if (error) {
        storm_violation("a change that cannot fail: %s", strerror(-error));
    }
    storm_count(&t->commits);
    storm_peek(t, storm.spaces[0], some_mark(t), 4);
    writer_settle(t, true);
    w->n_marks = 0;
}

/* ---- spaces and listeners that come and go ---- */

static void space_released(AddressSpace *as)
{
    free(as);
}

static void short_lived_space(StormThread *t)
{
    const Writer *w = &t->writer;
    AddressSpace *as = calloc(1, sizeof(*as));
    MemoryRegion *root = w->n_targets ? w->targets[storm_below(t, w->n_targets)].mr : storm.plug_places[0];
    StormSpace space = { .as = as, .name = "short-lived" };
    StormMirror mirror;
    hwaddr at = memory_region_get_addr(root) + storm_below(t, memory_region_size(root));
    int error;

    error = as ? address_space_init(as, root, "short-lived") : -ENOMEM;
    if (error) {
        storm_violation("a short-lived space: %s", strerror(-error));
        free(as);
        return;
    }
    if (mirror_start(&mirror, as, "short-lived", (MirrorKind)storm_below(t, MIRROR_KINDS), 3)) {
        single(t);
        if (memory_transaction_begin() == 0) {
            audit_space(t, &space, &at, 1);
            memory_transaction_commit();
        }
        mirror_stop(&mirror);
    }
    error = address_space_destroy(as, space_released);
    if (error) {
        storm_violation("a short-lived space does not end: %s", strerror(-error));
    }
}

static void visit(StormThread *t)
{
    Writer *w = &t->writer;

    if (!w->visitor) {
        w->visitor = malloc(sizeof(*w->visitor));
        if (w->visitor &&
            !mirror_start(w->visitor, some_space(t)->as, "visitor", (MirrorKind)storm_below(t, MIRROR_KINDS), 1)) {
            free(w->visitor);
            w->visitor = NULL;
        }
    } else {
        mirror_stop(w->visitor);
        free(w->visitor);
        w->visitor = NULL;
    }
}

void *writer_main(void *arg)
{
    StormThread *t = storm_self = arg;
    uint64_t dice;

    while (!storm_stopping()) {
        if (history_is_long(4)) {
            sched_yield(); /* a vCPU was left behind: its views are kept until it has moved */
            history_trim();
            continue;
        }
        dice = storm_below(t, 100);
        hold_history(t);
        if (dice < 50) {
            transact(t);
        } else if (dice < 62) {
            single(t);
        } else if (dice < 97) {
            pairs_change(t);
        } else if (dice < 99) {
            short_lived_space(t);
        } else {
            visit(t);
        }
        drop_history(t);
        history_trim();
        if (dice % 16 == 0) {
            usleep(100);
        }
    }
    if (t->writer.visitor) {
        visit(t);
    }
    return NULL;
}
