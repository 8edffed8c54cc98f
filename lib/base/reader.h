/* SPDX-License-Identifier: MIT */
/*
 * reader.h - read sections and grace periods: the only module that knows liburcu.
 *
 * Invariant: between reader_enter() and reader_exit() nothing that was reachable through reader_load() in that section
 * is freed (ORDERING: R4). reader_wait() returns when every section that was open at its call has ended.
 * A section costs no lock and no store to a shared line; it nests; it never blocks (R5).
 *
 * The flavour is urcu-memb: docs/ARCHITECTURE.md argues, `bench/run flavour` measures. Its read side is inlined here.
 */
#ifndef FLATVIEW_BASE_READER_H
#define FLATVIEW_BASE_READER_H

/* ThreadSanitizer does not see liburcu's ordering (docs/TESTING.md): this token stands for it. */
#if defined(__SANITIZE_THREAD__)
#define READER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define READER_TSAN 1
#endif
#endif
#ifdef READER_TSAN
/* Inlined, liburcu's volatile accesses to its futex word would be instrumented, and reported as races of our readers
   with each other; called, they are outside the sanitizer's sight. */
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
extern char reader_token;
#define READER_TSAN_RELEASE() __tsan_release(&reader_token)
#define READER_TSAN_ACQUIRE() __tsan_acquire(&reader_token)
#else
#define READER_TSAN_RELEASE() ((void)0)
#define READER_TSAN_ACQUIRE() ((void)0)
#define URCU_INLINE_SMALL_FUNCTIONS /* liburcu >= 0.14 */
#define _LGPL_SOURCE                /* before */
#endif
#include <urcu/urcu-memb.h>

#include <flatview/types.h>

/* We told liburcu of this thread. If not, someone else may have: reader_register_slow() asks. */
extern __thread bool reader_registered;

int reader_register_slow(void); /* 0, -ENOMEM; idempotent */
int reader_unregister(void);    /* -EBUSY inside a section */

#ifdef READER_TSAN
static inline bool reader_try_enter(void)
{
    if (!reader_registered) {
        return false;
    }
    urcu_memb_read_lock();
    return true;
}

static inline void reader_exit_entered(void)
{
    READER_TSAN_RELEASE();
    urcu_memb_read_unlock();
}
#else
/* This thread is registered by us and the kernel has membarrier: then the barriers of a section are the compiler's. */
extern __thread bool reader_needs_no_barrier;

void reader_wake(void); /* who waits for a grace period */

/*
 * Enter if that takes no call: false, and no section, for a thread that is not registered by us or needs barriers.
 *
 * This and the next are liburcu's own inline functions (urcu/static/urcu-memb.h, which is ABI, as every program that inlines
 * them relies on it), less what is known here: whether there is membarrier is asked once, at registration, and not three
 * times a section, and waking is a call. That is 11 instructions of 27.
 */
static inline bool reader_try_enter(void)
{
    unsigned long ctr;

    if (__builtin_expect(!reader_needs_no_barrier, 0)) {
        return false;
    }
    cmm_barrier();
    ctr = URCU_TLS(urcu_memb_reader).ctr;
    _CMM_STORE_SHARED(URCU_TLS(urcu_memb_reader).ctr,
                      __builtin_expect(!(ctr & URCU_GP_CTR_NEST_MASK), 1) ? _CMM_LOAD_SHARED(urcu_memb_gp.ctr) :
                                                                           ctr + URCU_GP_COUNT);
    cmm_barrier(); /* pairs with the membarrier of a grace period, as the next two do */
    return true;
}

/* Leave a section that reader_try_enter() opened. */
static inline void reader_exit_entered(void)
{
    cmm_barrier();
    /* Plain, so that a compiler may do it in one instruction where liburcu's macros take three; it need not be atomic. */
    URCU_TLS(urcu_memb_reader).ctr -= URCU_GP_COUNT;
    cmm_barrier();
    /* Also from an inner section, where liburcu would not: the one who waits looks again, and goes on waiting. */
    if (__builtin_expect(urcu_memb_gp.futex == -1, 0)) {
        reader_wake();
    }
}
#endif

static inline void reader_enter(void)
{
    if (__builtin_expect(reader_try_enter(), 1)) {
        return;
    }
    if (__builtin_expect(!reader_registered, 0)) {
        if (reader_register_slow() < 0) {
            __builtin_trap(); /* no memory to register a thread: it may not read. memory_thread_register() asks first */
        }
    }
    urcu_memb_read_lock();
}

static inline void reader_exit(void)
{
    READER_TSAN_RELEASE();
    urcu_memb_read_unlock();
}

/* Also in a section that the program opened by liburcu's own functions: no less a reason not to wait. */
static inline bool reader_ongoing(void)
{
    return urcu_memb_read_ongoing(); /* never, for a thread that is not registered */
}

/* Pairs with writer_publish() of the same location: what was written before publication is seen after the load. */
#define reader_load(location) __atomic_load_n((location), __ATOMIC_ACQUIRE)
#define writer_publish(location, value) __atomic_store_n((location), (value), __ATOMIC_RELEASE)

/* Wait for a grace period. Outside sections, with no lock held that a reader may want. */
void reader_wait(void);

/* Run fn once, on liburcu's worker, after a grace period that begins now. Never fails, never waits. One at a time for
   each ReaderDeferred. */
typedef struct ReaderDeferred {
    struct rcu_head head;
    void (*fn)(struct ReaderDeferred *deferred);
} ReaderDeferred;
void reader_defer(ReaderDeferred *deferred, void (*fn)(ReaderDeferred *deferred));

/*
 * An asymmetric fence, for a pair of threads of which one is always in a hurry and the other seldom there:
 *
 *     hurried: store A; reader_fence_light(); load B        seldom: store B; reader_fence_heavy(); load A
 *
 * At least one of the two loads sees the other's store. The heavy one makes every thread of the process execute a full barrier
 * at some point between its call and its return (membarrier(2), expedited: an interrupt to each processor that runs one), so
 * the light one need only stop the compiler; without membarrier both are full barriers. Light fences may be executed before
 * reader_fence_init(), and are then full.
 */
extern bool reader_has_membarrier; /* atomic; never goes back to false */
void reader_fence_init(void);
void reader_fence_heavy(void);
static inline void reader_fence_light(void)
{
    if (__builtin_expect(__atomic_load_n(&reader_has_membarrier, __ATOMIC_RELAXED), 1)) {
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    } else {
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
}

uint64_t reader_grace_periods(void); /* waited for or deferred on, so far */

#endif
