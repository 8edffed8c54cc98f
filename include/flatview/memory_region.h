/* SPDX-License-Identifier: MIT */
/*
 * memory_region.h - regions: what answers at an address, and where it stands among others.
 *
 * A device embeds its MemoryRegions and finds itself with container_of() in the callbacks. Regions form a tree: one
 * parent each; an alias shows a window of another region somewhere else. What is visible where follows the rules of
 * QEMU's docs/devel/memory.rst, "Visibility": see docs/ARCHITECTURE.md.
 *
 * All functions here, unless they say otherwise:
 *
 * Context: any thread, inside or outside a transaction, inside or outside a read section (so also from an access
 *          callback of a region: a guest's write to a config register moves a BAR). Not from a listener callback: -EBUSY.
 * Locking: takes the topology lock unless this thread's transaction holds it. Never waits for readers.
 * Effect:  inside a transaction, staged until memory_transaction_commit(); outside, published when the call returns.
 * Return:  0, or a negative errno with nothing changed. Besides what a function names: -EINVAL for a region that was
 *          never initialised or was destroyed, -ENOMEM, -EAGAIN as configured in memory_stats.h, and outside a
 *          transaction what memory_transaction_commit() would return: -E2BIG for a view that is too large or too deep,
 *          as one that would contain itself, or whatever a listener refused with.
 *
 * A size is in bytes; UINT64_MAX stands for 2^64, as in QEMU; 0 is a region that shows nothing.
 */
#ifndef FLATVIEW_MEMORY_REGION_H
#define FLATVIEW_MEMORY_REGION_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

struct FlatviewChainLink; /* private */

/** What to do with a write that is narrower than impl.min_access_size. */
typedef enum MemoryNarrowWrite {
    MEMORY_NARROW_WRITE_REFUSE = 0, /* MEMTX_ACCESS_ERROR, no callback runs */
    MEMORY_NARROW_WRITE_MERGE = 1,  /* read the full width, replace the bytes, write it back: for registers without
                                       read side effects */
    MEMORY_NARROW_WRITE_EXTEND = 2, /* one full-width callback at the access's own address, the other bytes zero: what
                                       QEMU does */
} MemoryNarrowWrite;

/**
 * MemoryRegionOps - how a region answers
 *
 * Must stay unchanged while a region that uses it exists; normally static const. Sizes are powers of two, 1 to 8, and
 * are all stated: zero is refused at init. Source of the rules: QEMU's MemoryRegionOps, less its silent defaults.
 *
 * Callbacks: @addr is the offset within the region (plus memory_region_set_offset()'s bias), @size 1, 2, 4 or 8 and
 * within impl; values are in host order, the library converts. They run on the accessing thread, inside a read section,
 * without any lock of the library: many at once. They may access memory, edit the topology, and commit; they must not
 * wait for a grace period (memory_region_quiesce() refuses).
 *
 * A missing read (write) callback makes the region write-only (read-only): MEMTX_ACCESS_ERROR. If both the plain and the
 * _with_attrs form are given, the latter is used.
 */
struct MemoryRegionOps {
    uint64_t (*read)(MemoryRegion *mr, hwaddr addr, unsigned size);
    void (*write)(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size);
    MemTxResult (*read_with_attrs)(MemoryRegion *mr, hwaddr addr, uint64_t *data, unsigned size, MemTxAttrs attrs);
    MemTxResult (*write_with_attrs)(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs attrs);
    MemoryEndianness endianness;
    /* What a guest may do. Anything else gets MEMTX_DECODE_ERROR and no callback. */
    struct {
        unsigned min_access_size, max_access_size;
        bool unaligned;
        /* may veto further; @addr as for the callbacks; NULL accepts all */
        bool (*accepts)(MemoryRegion *mr, hwaddr addr, unsigned size, bool is_write, MemTxAttrs attrs);
    } valid;
    /* What the callbacks implement. Wider valid accesses are split, ascending; narrower ones are widened: reads take
       the aligned full-width value and pick their bytes, writes follow narrow_write. */
    struct {
        unsigned min_access_size, max_access_size;
        bool unaligned; /* callbacks take any address; otherwise they get naturally aligned ones */
        MemoryNarrowWrite narrow_write;
    } impl;
};

/* The traditional form: one function for each width, a NULL where the width is not implemented. Embed it in place of
   ops: memory_region_init_io_legacy() builds the rest. */
typedef struct MemoryRegionLegacyOps {
    uint32_t (*read[3])(MemoryRegion *mr, hwaddr addr);              /* 8, 16, 32 bits */
    void (*write[3])(MemoryRegion *mr, hwaddr addr, uint32_t value); /* 8, 16, 32 bits */
    MemoryEndianness endianness;
} MemoryRegionLegacyOps;

/* Private to the library. How it tells kinds apart: a program asks memory_region_is_ram() and friends, or better, not. */
typedef enum MemoryRegionKind {
    MEMORY_KIND_CONTAINER = 0,
    MEMORY_KIND_IO,
    MEMORY_KIND_RAM,
    MEMORY_KIND_ROM,
    MEMORY_KIND_ROM_DEVICE,
    MEMORY_KIND_RAM_DEVICE,
    MEMORY_KIND_ALIAS,
    MEMORY_KIND_IOMMU,
} MemoryRegionKind;

/**
 * MemoryRegion - embed it; touch nothing inside
 *
 * Lifetime: initialised by a memory_region_init*() function or a MEMORY_REGION_*_INITIALIZER; ended by
 * memory_region_destroy(), after which the memory is the library's until the release function has run
 * (docs/LIFETIMES.md). The struct must not move in between. The size of this struct is part of the ABI.
 */
struct MemoryRegion {
    /* private: */
    const char *name;
    const MemoryRegionOps *ops;
    void (*release)(MemoryRegion *mr);
    MemoryRegion *parent;        /* guarded by the topology lock, as all below unless marked */
    /* place in the parent's interval index: what a search reads of each region that it passes, in 64 bytes */
    MemoryRegion *tree_left, *tree_right, *tree_up;
    hwaddr tree_last;            /* greatest last address that this subtree of the index shows, parent's coordinates */
    hwaddr addr;                 /* offset in parent */
    hwaddr last;                 /* size - 1; meaningless if size_is_zero */
    uint64_t order;              /* among equal priorities the greater is on top */
    int32_t priority;
    uint8_t tree_height;
    uint8_t tree_has;            /* what it and this subtree of the index have to show */
    bool size_is_zero;
    MemoryRegion *children;      /* root of the interval index of the children */
    MemoryRegion *alias;         /* target */
    MemoryRegion *aliases;       /* first of the aliases that show this region */
    MemoryRegion *alias_next, **alias_prev;
    hwaddr alias_offset;
    uint64_t bias;               /* memory_region_set_offset() */
    uint64_t first_gen, last_gen; /* generations between which views could reach it */
    void *host;                  /* RAM kinds: host address of offset 0; constant after init but for RAM devices */
    void *block;                 /* RAM kinds: the RamBlock */
    void *iommu;                 /* IOMMU regions: the IommuRegion; constant after init */
    void *population;            /* RAM: the Population, once somebody asked; atomic */
    void *cell;                  /* the view that is rendered from here, if any */
    void *planes;                /* RegionPlanes, once it carries something: read without the lock */
    struct FlatviewChainLink *chains; /* address spaces whose root resolution passes through here */
    size_t n_children, n_enabled_children;
    uint32_t mapped_aliases;     /* aliases of it that are mapped themselves */
    uint32_t io_flags;           /* constant after init: see lib/access */
    uint32_t hooks;              /* what an access must ask about; read without the lock */
    uint32_t hooks_wanted;       /* the same when the open transaction has committed */
    uint8_t kind;
    uint8_t state;
    uint8_t dirty_log_mask;      /* clients of the dirty log */
    uint8_t dirty_log_seen;      /* the same as of the last commit: what listeners were told */
    bool enabled, readonly, nonvolatile, romd, name_is_ours, ops_is_ours, mapped_as_root;
    bool interposed;             /* a view was made in which it is an interposer */
    void *window;                /* RAM devices: the RamWindow that host is of, if it came later */
    const struct MemoryInterposerOps *interposer; /* containers; NULL: none */
    void *calls;                 /* what it says about its calls; made when it first does */
    void *rooted;                /* address spaces registered with this root */
    uint64_t walk_mark;          /* topology walks: the last one that came by */
    MemoryRegion *walk_next;     /* still to be visited by it */
    FlatviewRetireCounted retire; /* its count: mappings of its memory */
    void *reserved[2];
};

/* Values of MemoryRegion.state; private. A zeroed struct is "never initialised". */
#define MEMORY_REGION_STATE_STATIC 1

/**
 * MEMORY_REGION_*_INITIALIZER - regions known at compile time
 *
 * For objects with static storage, for example
 *     static MemoryRegion uart = MEMORY_REGION_IO_INITIALIZER("uart", &uart_ops, 8);
 * A wrong ops table shows when the region is first used, as -EINVAL. @name must outlive the region.
 */
#define MEMORY_REGION_SIZE_FIELDS_(size_) \
    .last = (size_) == UINT64_MAX ? UINT64_MAX : (uint64_t)(size_)-1u, .size_is_zero = (size_) == 0, \
    .state = MEMORY_REGION_STATE_STATIC, .enabled = true, .romd = true
#define MEMORY_REGION_CONTAINER_INITIALIZER(name_, size_) \
    { .name = (name_), .kind = MEMORY_KIND_CONTAINER, MEMORY_REGION_SIZE_FIELDS_(size_) }
#define MEMORY_REGION_IO_INITIALIZER(name_, ops_, size_) \
    { .name = (name_), .ops = (ops_), .kind = MEMORY_KIND_IO, MEMORY_REGION_SIZE_FIELDS_(size_) }
#define MEMORY_REGION_RAM_PTR_INITIALIZER(name_, ptr_, size_) \
    { .name = (name_), .host = (ptr_), .kind = MEMORY_KIND_RAM, MEMORY_REGION_SIZE_FIELDS_(size_) }
#define MEMORY_REGION_ALIAS_INITIALIZER(name_, target_, offset_, size_) \
    { .name = (name_), .alias = (target_), .alias_offset = (offset_), .kind = MEMORY_KIND_ALIAS, \
      MEMORY_REGION_SIZE_FIELDS_(size_) }

/* ---- making regions ------------------------------------------------------------------------------------------- */

/**
 * memory_region_init() - a container: shows its children, nothing of its own
 * @mr:   memory of the caller; any content; must not be in use by another region
 * @name: copied; NULL is "" ; any characters, need not be unique
 * @size: bytes
 *
 * Context:   any thread, also a listener callback; touches no other region.
 * Locking:   none.
 * Ownership: on success the library may keep pointers to @mr until it is released; on failure @mr is untouched.
 * Return:    0, -EINVAL (@mr is NULL), -ENOMEM.
 * Since:     0.1, as everything in this header.
 */
FLATVIEW_API int memory_region_init(MemoryRegion *mr, const char *name, uint64_t size);

/**
 * memory_region_init_io() - a region that answers through callbacks
 * @ops: NULL makes a reservation: it covers what is below and answers nothing (MEMTX_DECODE_ERROR)
 *
 * As memory_region_init(); also -EINVAL if @ops has no callback at all, leaves a size or the byte order out, or is
 * contradictory.
 */
FLATVIEW_API int memory_region_init_io(MemoryRegion *mr, const MemoryRegionOps *ops, const char *name, uint64_t size);

/**
 * memory_region_init_io_legacy() - as memory_region_init_io(), from per-width functions
 * @ops: not copied; must stay unchanged while the region exists. At least one function, else -EINVAL
 *
 * Accesses of a width that has no function get MEMTX_DECODE_ERROR; if a whole direction has none, MEMTX_ACCESS_ERROR.
 */
FLATVIEW_API int memory_region_init_io_legacy(MemoryRegion *mr, const MemoryRegionLegacyOps *ops, const char *name,
                                              uint64_t size);

/**
 * memory_region_init_reservation() - covers what lies below and answers nothing
 *
 * As memory_region_init_io() with NULL ops.
 */
FLATVIEW_API int memory_region_init_reservation(MemoryRegion *mr, const char *name, uint64_t size);

/**
 * memory_region_init_ram() - anonymous memory, zeroed, mapped on demand, freed after release
 *
 * As memory_region_init(); also -ENOMEM if the mapping is refused, -EINVAL for a size that a host cannot map.
 * Size 0 has no host memory.
 */
FLATVIEW_API int memory_region_init_ram(MemoryRegion *mr, const char *name, uint64_t size);

/** memory_region_init_ram_memfd() - as memory_region_init_ram(), on a sealed-size memfd: memory_region_get_fd(). */
FLATVIEW_API int memory_region_init_ram_memfd(MemoryRegion *mr, const char *name, uint64_t size);

/** memory_region_init_ram_ptr() - memory of the caller, who frees it after the release function has run. */
FLATVIEW_API int memory_region_init_ram_ptr(MemoryRegion *mr, const char *name, uint64_t size, void *ptr);

/**
 * memory_region_init_ram_from_fd() - a shared mapping of a file
 * @fd:     duplicated; the caller keeps and closes its own
 * @offset: bytes into the file, page aligned
 *
 * As memory_region_init_ram(); also the errno of mmap() or dup(), -EINVAL if the file is shorter than @offset + @size.
 */
FLATVIEW_API int memory_region_init_ram_from_fd(MemoryRegion *mr, const char *name, uint64_t size, int fd,
                                                uint64_t offset);

/** memory_region_init_ram_from_file() - opens an existing file, maps it shared, and grows it if @size is beyond its end. */
FLATVIEW_API int memory_region_init_ram_from_file(MemoryRegion *mr, const char *name, uint64_t size, const char *path);

/** memory_region_init_rom() - as RAM to the host, read-only to the guest (MEMTX_ACCESS_ERROR, data untouched). */
FLATVIEW_API int memory_region_init_rom(MemoryRegion *mr, const char *name, uint64_t size);

/** memory_region_init_rom_ptr() - ROM in memory of the caller. */
FLATVIEW_API int memory_region_init_rom_ptr(MemoryRegion *mr, const char *name, uint64_t size, void *ptr);

/**
 * memory_region_init_rom_device() - flash: in read mode (the initial one) reads are direct and writes call back; out of
 * it both call back. See memory_region_rom_device_set_romd(). -EINVAL for NULL @ops.
 */
FLATVIEW_API int memory_region_init_rom_device(MemoryRegion *mr, const MemoryRegionOps *ops, const char *name,
                                               uint64_t size);

/**
 * memory_region_init_ram_device_ptr() - mapped hardware: accesses keep their width and are never copied in bulk
 *
 * Naturally aligned accesses of 1, 2, 4 and 8 bytes are one load or store; others, and bulk copies, are cut into such,
 * ascending. For hardware that takes fewer widths, or whose memory comes later: memory_ram_device.h.
 */
FLATVIEW_API int memory_region_init_ram_device_ptr(MemoryRegion *mr, const char *name, uint64_t size, void *ptr);

/**
 * memory_region_init_alias() - a window [@offset, @offset + @size) of @target
 * @target: initialised; must stay so while the alias exists (destroying it is refused); any kind, also an alias, mapped
 *          or not; its own place does not matter, its own enabled flag does
 *
 * As memory_region_init(), but takes the topology lock, and -EBUSY from a listener. What lies beyond the target shows
 * nothing.
 */
FLATVIEW_API int memory_region_init_alias(MemoryRegion *mr, const char *name, MemoryRegion *target, hwaddr offset,
                                          uint64_t size);

/**
 * memory_region_set_release() - who is told when the region's memory is the owner's again
 * @release: runs once, after memory_region_destroy(), when no reader, pin or listener can reach @mr any more; on an
 *           arbitrary thread, outside read sections and without locks of the library; it may free @mr, and may call any
 *           function of the library on other regions
 */
FLATVIEW_API int memory_region_set_release(MemoryRegion *mr, void (*release)(MemoryRegion *mr));

/**
 * memory_region_destroy() - end a region
 *
 * Refuses with -EBUSY while the region is in a parent, has children, is the target of an alias or the root of an address
 * space. Inside a transaction it takes effect when that commits (so del_subregion and destroy may go together) and is
 * undone when it aborts. On success @mr belongs to the library until its release function is called. Without one nobody
 * is told: use memory_region_quiesce().
 */
FLATVIEW_API int memory_region_destroy(MemoryRegion *mr);

/**
 * memory_region_quiesce() - wait until a destroyed region has been released, its release function included
 *
 * Context: outside read sections and transactions, not in a listener, foreach or release function: otherwise -EDEADLK.
 *          Returns at once if @mr was released before. A pinned view that shows the region (flatview_ref()) makes it wait.
 * Return:  0, -EDEADLK, -EINVAL if @mr was not destroyed.
 * Note:    if the release function frees @mr, the caller must hold it some other way; the struct itself is read only
 *          before the wait.
 */
FLATVIEW_API int memory_region_quiesce(MemoryRegion *mr);

/* ---- place ---------------------------------------------------------------------------------------------------- */

/**
 * memory_region_add_subregion() - put @child into @mr at @offset, priority 0
 * @offset: any; what reaches beyond @mr is clipped
 *
 * Return: also -EBUSY (@child has a parent), -EINVAL (@child is @mr), -ELOOP (@mr is inside @child, or @child's place would
 *         be seen again inside @child through an alias. An alias of a window of the region that it stands in is fine).
 */
FLATVIEW_API int memory_region_add_subregion(MemoryRegion *mr, hwaddr offset, MemoryRegion *child);

/** memory_region_add_subregion_overlap() - the same with a priority: higher is on top; among equals the latest added. */
FLATVIEW_API int memory_region_add_subregion_overlap(MemoryRegion *mr, hwaddr offset, MemoryRegion *child,
                                                     int priority);

/** memory_region_del_subregion() - take @child out. -EINVAL if it is not a child of @mr. */
FLATVIEW_API int memory_region_del_subregion(MemoryRegion *mr, MemoryRegion *child);

/** memory_region_set_address() - move within the parent, keeping the place among equal priorities. */
FLATVIEW_API int memory_region_set_address(MemoryRegion *mr, hwaddr addr);

/**
 * memory_region_set_size() - grow or shrink in place
 *
 * Return: also -EINVAL for RAM kinds beyond the size they were made with.
 */
FLATVIEW_API int memory_region_set_size(MemoryRegion *mr, uint64_t size);

/** memory_region_set_enabled() - hide a region and all below it, or show it again. */
FLATVIEW_API int memory_region_set_enabled(MemoryRegion *mr, bool enabled);

/** memory_region_set_alias_offset() - slide the window. -EINVAL if @mr is no alias. */
FLATVIEW_API int memory_region_set_alias_offset(MemoryRegion *mr, hwaddr offset);

/** memory_region_set_readonly() - refuse writes to whatever shows through @mr. On ROM kinds: -EINVAL to clear. */
FLATVIEW_API int memory_region_set_readonly(MemoryRegion *mr, bool readonly);

/** memory_region_set_nonvolatile() - mark whatever shows through @mr as non-volatile. */
FLATVIEW_API int memory_region_set_nonvolatile(MemoryRegion *mr, bool nonvolatile);

/** memory_region_rom_device_set_romd() - in and out of read mode. -EINVAL if @mr is no ROM device. */
FLATVIEW_API int memory_region_rom_device_set_romd(MemoryRegion *mr, bool romd);

/**
 * memory_region_set_offset() - bias added to the address handed to callbacks (the proposal's set_offset)
 * @offset: added modulo 2^64; 0 initially. Does not move anything.
 */
FLATVIEW_API int memory_region_set_offset(MemoryRegion *mr, hwaddr offset);

/* ---- asking --------------------------------------------------------------------------------------------------- */

/*
 * Context: any thread, listeners included. Inside the transaction of this thread the answers are the staged ones; from
 * another thread, while a transaction runs, they may be either the old or the new: for a stable answer look at a view.
 */
FLATVIEW_API const char *memory_region_name(const MemoryRegion *mr); /* until @mr is destroyed */
FLATVIEW_API uint64_t memory_region_size(const MemoryRegion *mr);    /* UINT64_MAX stands for 2^64 */
FLATVIEW_API hwaddr memory_region_get_addr(const MemoryRegion *mr);  /* offset in the parent */
FLATVIEW_API int memory_region_get_priority(const MemoryRegion *mr);
FLATVIEW_API bool memory_region_is_enabled(const MemoryRegion *mr);  /* its own flag */
FLATVIEW_API bool memory_region_is_mapped(const MemoryRegion *mr);   /* has a parent, or an alias with one shows it */
FLATVIEW_API bool memory_region_is_ram(const MemoryRegion *mr);      /* RAM, ROM, RAM device: not a ROM device */
FLATVIEW_API bool memory_region_is_rom(const MemoryRegion *mr);      /* RAM that is read-only by itself */
FLATVIEW_API bool memory_region_is_romd(const MemoryRegion *mr);     /* ROM device in read mode */
FLATVIEW_API bool memory_region_is_rom_device(const MemoryRegion *mr);
FLATVIEW_API bool memory_region_is_ram_device(const MemoryRegion *mr);
FLATVIEW_API bool memory_region_is_readonly(const MemoryRegion *mr); /* its own flag */
FLATVIEW_API bool memory_region_is_nonvolatile(const MemoryRegion *mr);
FLATVIEW_API bool memory_region_is_container(const MemoryRegion *mr);
FLATVIEW_API MemoryRegion *memory_region_get_parent(const MemoryRegion *mr);
FLATVIEW_API MemoryRegion *memory_region_get_alias_target(const MemoryRegion *mr); /* NULL if no alias */
FLATVIEW_API hwaddr memory_region_get_alias_offset(const MemoryRegion *mr);
FLATVIEW_API uint8_t memory_region_get_dirty_log_mask(const MemoryRegion *mr); /* memory_dirty.h */
FLATVIEW_API void *memory_region_get_ram_ptr(const MemoryRegion *mr); /* NULL unless backed; valid until released */
FLATVIEW_API int memory_region_get_fd(const MemoryRegion *mr);        /* -1 unless memfd or file; do not close */
FLATVIEW_API uint64_t memory_region_get_fd_offset(const MemoryRegion *mr); /* where in that the region begins, bytes */

/**
 * memory_region_foreach_child() - children, topmost first (priority, then latest added)
 * @fn: returns non-zero to stop. May not change the topology: -EBUSY, but inside a transaction of this thread, where it
 *      is not refused, it derails the walk
 *
 * Context: any thread but a listener callback (-EBUSY).
 * Locking: holds the topology lock around the calls.
 * Return:  what @fn returned last, 0 if there are none, -EINVAL, -ENOMEM.
 */
FLATVIEW_API int memory_region_foreach_child(MemoryRegion *mr, int (*fn)(MemoryRegion *child, void *arg), void *arg);

FLATVIEW_END_DECLS

#endif
