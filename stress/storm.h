/* SPDX-License-Identifier: MIT */
/*
 * storm.h - what the parts of `flatview storm` share.
 *
 * The property under test: every access, by any thread at any time, gets the answer of one view that was current
 * between its start and its end; and every listener's mirror is that view, at every commit. storm.c says how to run it
 * and how to read what it prints.
 *
 *   storm.c          options, threads
 *   storm_report.c   the live table, the report
 *   storm_setup.c    the machine, the spaces that are watched, what may change
 *   storm_stamp.c    what each region of the machine answers with
 *   storm_calm.c     what watches the whole run, and how it ends
 *   storm_device.c   what answers: registers and memory whose every byte says whose it is
 *   storm_hotplug.c  devices that come and go, and the proof that nobody touches them afterwards
 *   storm_history.c  which views were current when
 *   storm_expect.c   what a view says that an access must give: the model
 *   storm_access.c   one access, carried out and judged
 *   storm_vcpu.c     which accesses
 *   storm_writer.c   transactions
 *   storm_mutate.c   the changes that they are made of
 *   storm_audit.c    views against the tree, point by point
 *   storm_mirror.c   listeners that check what they are told
 *   storm_slots.c    a space without history, so that nothing but the grace period protects its readers
 *   storm_planes.h   what lies beside the map
 *   storm_accel.h    accelerators
 */
#ifndef FLATVIEW_STRESS_STORM_H
#define FLATVIEW_STRESS_STORM_H

#include "histogram.h"
#include "machine.h"
#include "sections.h"

#include <flatview/memory.h>

#include <pthread.h>

#define STORM_MAX_SPACES 7 /* the last one is an accelerator's */
#define STORM_MAX_THREADS 32 /* each owns two lines of a page: see SCRATCH below */
#define STORM_PAGE 4096u
#define ACCESS_MAX 64u
#define ACCESS_UNTOUCHED 0xa5 /* what fills a buffer before a read */

typedef struct StormThread StormThread;
typedef struct StormAccel StormAccel;
typedef struct HotDevice HotDevice;

/* ---- what answers (storm_device.c) ---- */

typedef enum BackingKind { BACKING_IO, BACKING_MEMORY, BACKING_ROM_DEVICE } BackingKind;

#define BACKING_ALIVE UINT64_C(0x5afe5afe5afe5afe)
#define BACKING_DEAD UINT64_C(0xdeaddeaddeaddead)

/*
 * What a region answers with. The byte at offset o belongs to the word backing_word(id, o / 8), a bijection of id and
 * offset: whatever the size, split and byte order of an access, the bytes say which region it reached, and where.
 * Ids are never used again, so they tell a device from the next one in its place.
 */
typedef struct Backing {
    uint64_t canary; /* atomic */
    uint64_t inside; /* atomic: callbacks running now; counted for devices that can go */
    uint64_t bias;   /* atomic: how often memory_region_set_offset() was called; the bias is that, << BIAS_SHIFT */
    uint32_t id;
    BackingKind kind;
    bool comes_and_goes;
    bool is_private; /* memory that a guest works in: any contents will do */
    const MemoryRegionOps *ops; /* NULL for memory and reservations */
    uint8_t *host;              /* memory kinds */
    uint64_t size;
    uint64_t *pages; /* offsets of the pages that carry stamps, ascending; the others are never touched */
    size_t n_pages;
    bool all_pages;
    void (*written)(struct Backing *backing); /* called back on every write; may be NULL */
} Backing;

#define BIAS_SHIFT 44
#define BIAS_OFFSET_MASK ((UINT64_C(1) << BIAS_SHIFT) - 1)

uint64_t backing_word(uint32_t id, uint64_t offset);
void backing_unword(uint64_t word, uint32_t *ret_id, uint64_t *ret_offset); /* of a word at an aligned offset */
uint8_t backing_byte(uint32_t id, uint64_t offset);
Backing *backing_of(MemoryRegion *mr);
bool backing_has_page(const Backing *b, uint64_t offset);
void backing_stamp(Backing *b, uint64_t first, uint64_t last);
uint32_t backing_new_id(void);

/*
 * SCRATCH: in memory, the last word of each 64-byte line is for writing, the others keep their stamps for ever. Line l
 * of a page belongs to thread l % (number of threads), so its owner knows what must be there. All mappings of memory
 * are aligned to pages: a write goes to its own scratch word even if the memory behind the address changes under way.
 */
#define SCRATCH_MASK 0x38u
static inline bool is_scratch(uint64_t offset)
{
    return (offset & SCRATCH_MASK) == SCRATCH_MASK;
}

enum {
    MODEL_PLAIN,
    MODEL_NARROW_BE,
    MODEL_WORDS,
    MODEL_READ_ONLY,
    MODEL_WRITE_ONLY,
    MODEL_FAULTY,
    MODEL_SILENT,
    MODELS
};
const MemoryRegionOps *model_ops(unsigned model);               /* NULL for MODEL_SILENT: a reservation */
bool model_faults(const MemoryRegionOps *ops, uint64_t offset); /* this bus access gets MEMTX_ERROR */

/* ---- accesses (storm_expect.c, storm_access.c) ---- */

typedef struct StormSpace StormSpace;

typedef struct Access {
    hwaddr addr;
    unsigned len;
    bool is_write, typed, big_endian;
    bool by_guest; /* through an accelerator: an error is ones, and result says nothing */
    uint8_t data[ACCESS_MAX]; /* what to write; what was read */
    MemTxResult result;
} Access;

/* What device callbacks were told by this access. */
typedef struct Journal {
    struct {
        const Backing *backing;
        uint32_t id;
        unsigned size;
        uint64_t offset, value, bias;
    } at[160];
    unsigned n;
    struct Journal *outer; /* an access made by a callback has its own */
} Journal;

/* Does the view give what the access got? If not and @why, in words. */
bool expect_matches(const FlatView *view, const Access *a, const Journal *journal, char *why, size_t len);
#define WHY_MAX 320

/* Carry out and judge; false after a violation. Whoever calls holds the history (hold_history()). */
bool storm_access(StormThread *t, StormSpace *space, Access *a);
bool storm_translate(StormThread *t, StormSpace *space, hwaddr addr, bool is_write);
/* A read of @len bytes there: what writers and callbacks use to look at one address. */
bool storm_peek(StormThread *t, StormSpace *space, hwaddr addr, unsigned len);

/* ---- history (storm_history.c) ---- */

#define HISTORY_RING 8192u
#define HISTORY_BUSY (HISTORY_RING / 4)

/* Views of one space, numbered from 0. clock is 2k while view k is current and nothing is under way, 2k + 1 while view
   k + 1 may be visible already. */
typedef struct History {
    uint64_t clock __attribute__((aligned(64))); /* atomic; written under the topology lock */
    MemoryListener listener __attribute__((aligned(64)));
    FlatView *ring[HISTORY_RING];
    pthread_mutex_t trim_lock;
    uint64_t oldest;      /* guarded by trim_lock */
    uint64_t oldest_seen; /* atomic copy */
    FlatView *promised;   /* the new view of the commit under way */
    bool pending;
} History;

struct StormSpace {
    AddressSpace *as;
    const char *name;
    uint32_t root;    /* in storm.topo */
    bool has_memory;  /* RAM can show here: accesses keep to SCRATCH when they write */
    FlatView *pinned; /* from the start to the end, and what it was at the start */
    Sections pinned_sections;
    History history;
};

bool history_start(StormSpace *space);
bool history_stop(StormSpace *space);
void history_trim(void);              /* let go of what no access can need any more */
bool history_is_long(unsigned share); /* more than 1/share of HISTORY_RING waits */
static inline uint64_t history_now(const StormSpace *space)
{
    return __atomic_load_n(&space->history.clock, __ATOMIC_ACQUIRE);
}
/* View k of a space; between hold_history() and drop_history() of this thread, and not older than at hold_history(). */
FlatView *history_view(const StormSpace *space, uint64_t k);
void hold_history(StormThread *t);
void drop_history(StormThread *t);

/* ---- listeners (storm_mirror.c) ---- */

typedef struct StormMirror {
    MemoryListener listener;
    AddressSpace *as;
    Sections sections;
    const MemoryDelta *delta;
    enum { MIRROR_IDLE, MIRROR_BEGUN, MIRROR_PREPARED, MIRROR_REMOVING, MIRROR_ADDING } phase;
    bool ready;       /* has replayed the view */
    bool detached;    /* atomic */
    hwaddr told_last; /* of additions and nops in this round, */
    size_t told;      /* and how many */
} StormMirror;

typedef enum MirrorKind { MIRROR_BY_SPANS, MIRROR_BY_REGIONS, MIRROR_WITH_NOPS, MIRROR_KINDS } MirrorKind;

bool mirror_start(StormMirror *m, AddressSpace *as, const char *name, MirrorKind kind, int priority);
bool mirror_stop(StormMirror *m);

/* Refuses what the committing thread asks to be refused (StormThread.refuse). */
bool refuser_start(MemoryListener *listener, AddressSpace *as, int priority);

/* ---- hot-pluggable devices (storm_hotplug.c) ---- */

typedef struct HotRegion {
    MachineRegion region; /* first: callbacks find a Backing through region.user */
    Backing backing;
    HotDevice *device;
    bool made;
} HotRegion;

enum { HOT_BOX, HOT_REGS, HOT_MEMORY, HOT_WINDOW, HOT_REGIONS };

/* A box with registers, memory or flash, and a window onto its registers; or registers alone. */
struct HotDevice {
    HotRegion at[HOT_REGIONS];
    MemoryRegion *parent; /* where it is plugged; its owner's business */
    void *memory;         /* ours; NULL: the library's */
    uint32_t refs;        /* atomic: regions not yet released */
    HotDevice *next;
};

HotDevice *hot_new(unsigned model, uint64_t regs_size, bool is_flash);
HotDevice *hot_new_bare(uint32_t id, uint64_t size); /* registers alone, MODEL_PLAIN */
/* Inside a transaction or not; 0 or the errno of the first call that failed. */
int hot_plug(HotDevice *d, MemoryRegion *parent, hwaddr addr, int priority);
int hot_unplug(HotDevice *d);  /* and destroy: once that is committed, the device frees itself */
int hot_discard(HotDevice *d); /* was never plugged, or is not any more */
void hot_finish(void);         /* free those that wait to be freed */
uint64_t hot_alive(void);

/* ---- writers (storm_writer.c, storm_mutate.c, storm_audit.c) ---- */

/* A region of the machine that may be changed, and how it was at the start. */
typedef struct Target {
    MemoryRegion *mr, *parent;
    hwaddr addr, alias_offset;
    uint64_t size;
    int priority;
    bool enabled, readonly, nonvolatile, romd;
    bool has_memory, is_alias, is_rom, is_rom_device;
} Target;

#define WRITER_DEVICES 8
#define WRITER_MARKS 24

typedef struct Writer {
    Target *targets;
    size_t n_targets;
    uint32_t *away; /* indices of targets that are not as at the start */
    size_t n_away;
    HotDevice *devices[WRITER_DEVICES];
    bool plugged[WRITER_DEVICES];
    /* of the transaction under way */
    hwaddr marks[WRITER_MARKS]; /* addresses that it may have changed */
    unsigned n_marks;
    uint32_t touched[64];
    unsigned n_touched;
    unsigned going, coming; /* masks of devices[] */
    StormMirror *visitor;   /* a mirror that comes and goes */
    MemoryRegion ballast;   /* in no tree: changed by every transaction */
} Writer;

bool writer_init(StormThread *t);
void writer_fini(StormThread *t);
void *writer_main(void *arg);
/* One change of the thread's own part of the tree; 0 or an errno. */
int writer_mutate(StormThread *t);
void writer_mark(StormThread *t, MemoryRegion *mr);
void writer_settle(StormThread *t, bool done);
int writer_go_home(StormThread *t);

/* The tree and the published view agree at @n addresses, before them and somewhere else. This thread's transaction is
   open and has changed nothing. */
bool audit_space(StormThread *t, const StormSpace *space, const hwaddr *at, unsigned n);
/* They agree at every edge of the view. Makes its own transaction. */
bool audit_everything(StormThread *t, const StormSpace *space);
/* What the tree says about an address: this thread's transaction is open. */
bool resolve_point(const AddressSpace *as, hwaddr addr, MemoryRegionSection *ret_section);
bool same_point(hwaddr addr, bool a_found, const MemoryRegionSection *a, bool b_found, const MemoryRegionSection *b);

/* ---- vCPUs (storm_vcpu.c) ---- */

bool vcpu_init(StormThread *t);
void *vcpu_main(void *arg);

/* ---- the space without history (storm_slots.c) ---- */

bool pairs_init(void);
bool pairs_fini(void);
bool pairs_change(StormThread *t);
bool pairs_access(StormThread *t);

/* ---- threads and the whole (storm.c, storm_setup.c, storm_stamp.c, storm_calm.c, storm_report.c) ---- */

struct StormThread {
    uint64_t rng __attribute__((aligned(64)));
    unsigned index;
    bool is_writer;
    pthread_t thread;
    int refuse; /* asks the refuser to refuse this thread's commit with that */
    bool was_refused;
    unsigned depth; /* of accesses within accesses */
    Journal *journal;
    uint64_t floor[STORM_MAX_SPACES]; /* the oldest view that may still be seen: what was seen last */
    Writer writer;
    HotDevice *own; /* a vCPU's device: a write to its registers moves it */
    Histogram access_ns, commit_ns;
    /* written by the thread alone, read by the report */
    uint64_t accesses __attribute__((aligned(64)));
    uint64_t commits, refused, aborted, translations, audits, slot_accesses, guest_accesses;
    uint64_t hold[STORM_MAX_SPACES] __attribute__((aligned(64))); /* atomic: see storm_history.c */
};

typedef struct Storm {
    Machine machine;
    TopoFile topo;
    StormSpace *spaces[STORM_MAX_SPACES];
    unsigned n_spaces;
    StormMirror mirrors[STORM_MAX_SPACES][2];
    MemoryListener refusers[STORM_MAX_SPACES];
    Backing *backings; /* by index in topo */
    MemoryRegion **plug_places;
    unsigned n_plug_places;
    StormThread *threads[STORM_MAX_THREADS];
    unsigned n_threads, n_vcpus, n_writers;
    bool memory_aligned; /* all mappings of memory are: writes to memory are safe (SCRATCH) */
    bool stop;           /* atomic */
    uint64_t violations; /* atomic */
    MemoryStats start;   /* before the storm */
    uint64_t seed;
} Storm;

extern Storm storm;
extern __thread StormThread *storm_self;

const MemoryRegionOps *choose_ops(const TopoRegion *topo, const MachineOptions *options);
bool make_backings(void);
bool stamp_memory(void); /* of what the watched spaces show */
bool storm_setup(const char *file, const StormAccel *accel, InputError *err); /* accel may be NULL */
void storm_forget(void); /* what setup made, but the machine */
bool storm_watch(void);
void storm_check_pins(void);
bool storm_calm(void); /* everything back to where it was, listeners and devices gone; judges what is left alive */
void storm_teardown(void);

void storm_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t storm_clock_ns(void);

typedef struct StormTotals {
    uint64_t lookups, commits, refused, aborted, audits;
} StormTotals;
StormTotals storm_totals(void);
void storm_print_second(unsigned long second, const StormTotals *now, const StormTotals *before);
void storm_print_report(double seconds, bool details);
void storm_print_json(double seconds);

static inline bool storm_stopping(void)
{
    return __atomic_load_n(&storm.stop, __ATOMIC_RELAXED);
}

static inline void storm_count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

static inline uint64_t storm_random(StormThread *t)
{
    t->rng ^= t->rng >> 12;
    t->rng ^= t->rng << 25;
    t->rng ^= t->rng >> 27;
    return t->rng * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 to n - 1 */
static inline uint64_t storm_below(StormThread *t, uint64_t n)
{
    return n ? (storm_random(t) >> 11) % n : 0;
}

static inline bool storm_chance(StormThread *t, unsigned one_in)
{
    return storm_below(t, one_in) == 0;
}

#endif
