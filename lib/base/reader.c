/* SPDX-License-Identifier: MIT */
/*
 * reader.c - which threads grace periods look at, and the grace periods.
 *
 * Invariant: a thread inside a read section is in liburcu's registry. reader_registered implies it, so the inline path
 * asks nothing else; it is set after registration and cleared before its end, by the thread itself only.
 * Established by: reader_register_slow(), undone by reader_unregister() or the end of the thread.
 * Relied on by:   reader_enter(), retire.c.
 *
 * A thread may be registered by someone else: by the program, which uses the same liburcu, or by liburcu, for its
 * worker. Registering it twice would corrupt liburcu's list. Nor is it remembered: the program ends its registration
 * whenever it likes and tells nobody, and a section begun after that would not be waited for. Such a thread asks at
 * each access, and takes the slow way.
 *
 * Why a thread-specific key and not a destructor of the TLS variable: C has none. A key's destructor may run before
 * that of another key whose owner still reads memory; that access registers the thread again and so has our destructor
 * called once more, up to PTHREAD_DESTRUCTOR_ITERATIONS times.
 *
 * fork(): the child has the registry of its parent but not the threads in it, nor liburcu's worker. Its first grace
 * period could wait for ever, so it must not use the library before exec.
 */
#include "base/reader.h"

#include <assert.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <urcu/static/urcu-memb.h>

#include "base/live.h"

__thread bool reader_registered;
#ifndef READER_TSAN
__thread bool reader_needs_no_barrier;

__attribute__((cold)) void reader_wake(void)
{
    urcu_common_wake_up_gp(&urcu_memb_gp);
}

static void set_registered(bool registered)
{
    reader_registered = registered;
    reader_needs_no_barrier = registered && urcu_memb_has_sys_membarrier;
}
#else
static void set_registered(bool registered)
{
    reader_registered = registered;
}
#endif

#ifdef READER_TSAN
char reader_token;
#endif

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

static pthread_once_t worker_once = PTHREAD_ONCE_INIT;

static uint64_t grace_periods; /* atomic, relaxed: a statistic */

static void leave_registry(void)
{
    if (reader_registered) {
        set_registered(false);
        urcu_memb_unregister_thread();
        live_sub(LIVE_THREADS, 1);
    }
}

static void thread_ends(void *arg)
{
    (void)arg;
    assert(!reader_ongoing() && "a thread ended inside a read section");
    leave_registry();
}

static void key_create(void)
{
    key_error = pthread_key_create(&key, thread_ends);
}

int reader_register_slow(void)
{
    if (reader_registered || URCU_TLS(urcu_memb_reader).registered) {
        return 0;
    }
    /* What can fail comes first; the value only has to be non-NULL for the destructor to be called. */
    pthread_once(&key_once, key_create);
    if (key_error || pthread_setspecific(key, &key)) {
        return -ENOMEM;
    }
    urcu_memb_register_thread();
    set_registered(true);
    live_add(LIVE_THREADS, 1);
    return 0;
}

int reader_unregister(void)
{
    if (reader_ongoing()) {
        return -EBUSY;
    }
    leave_registry();
    return 0;
}

void reader_wait(void)
{
    assert(!reader_ongoing() && "a reader cannot wait for itself");
    urcu_memb_synchronize_rcu();
    READER_TSAN_ACQUIRE();
    __atomic_fetch_add(&grace_periods, 1, __ATOMIC_RELAXED);
}

bool reader_has_membarrier;
static pthread_once_t fence_once = PTHREAD_ONCE_INIT;

static long membarrier(int command)
{
    return syscall(__NR_membarrier, command, 0, 0);
}

static void fence_init(void)
{
    /* Whoever believes it to be false a while longer executes a full barrier, which is never wrong. */
    bool has = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;

    __atomic_store_n(&reader_has_membarrier, has, __ATOMIC_RELAXED);
}

void reader_fence_init(void)
{
    pthread_once(&fence_once, fence_init);
}

void reader_fence_heavy(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&reader_has_membarrier, __ATOMIC_RELAXED) &&
        membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0) {
        __builtin_trap(); /* a filter forbids now what was allowed: liburcu's grace periods end the process, too */
    }
}

uint64_t reader_grace_periods(void)
{
    return __atomic_load_n(&grace_periods, __ATOMIC_RELAXED);
}

/* The worker inherits the signal mask of the thread that happens to start it. It must not be the one that runs the
   program's handlers: those may enter read sections, take locks, or expect a stack of another size. */
static void worker_start(void)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    urcu_memb_get_default_call_rcu_data();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void deferred_run(struct rcu_head *head)
{
    ReaderDeferred *deferred = container_of(head, ReaderDeferred, head);

#ifdef READER_TSAN
    __tsan_acquire(deferred);
#endif
    READER_TSAN_ACQUIRE();
    __atomic_fetch_add(&grace_periods, 1, __ATOMIC_RELAXED);
    deferred->fn(deferred);
}

void reader_defer(ReaderDeferred *deferred, void (*fn)(ReaderDeferred *deferred))
{
    pthread_once(&worker_once, worker_start);
    /* liburcu enters a section of its own while it picks the worker's queue. A thread that cannot be registered for
       lack of memory is no danger: what that section protects is freed only by programs that manage workers
       themselves. */
    (void)reader_register_slow();
    deferred->fn = fn;
#ifdef READER_TSAN
    __tsan_release(deferred);
#endif
    urcu_memb_call_rcu(&deferred->head, deferred_run);
}
