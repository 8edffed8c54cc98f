/* SPDX-License-Identifier: MIT */
/*
 * soon.c - the thread that does what has to be done in a moment.
 *
 * Invariant: work is in the list from soon_run() until just before its function is called. Under the lock.
 * The thread is never joined and ends with the process: what it waits for is to be found in the list as long as that lives.
 */
#include "base/soon.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/lock.h"

static Lock soon_lock = LOCK_INITIALIZER(LOCK_RANK_LEAF, "soon");
static pthread_cond_t something = PTHREAD_COND_INITIALIZER;
static SoonWork *first, **last = &first; /* guarded by the lock */

static pthread_once_t start_once = PTHREAD_ONCE_INIT;
static bool started;

static SoonWork *take(void)
{
    SoonWork *work;

    lock_acquire(&soon_lock);
    while (!first) {
        lock_wait(&soon_lock, &something);
    }
    lock_release(&soon_lock);
    /* In which more comes together, and which is the promise: soon. Nothing is taken meanwhile. */
    usleep(SOON_DELAY_US);
    lock_acquire(&soon_lock);
    work = first;
    first = work->next;
    if (!first) {
        last = &first;
    }
    lock_release(&soon_lock);
    return work;
}

static void *run(void *arg)
{
    for (;;) {
        SoonWork *work = take();

        work->fn(work);
    }
    return arg;
}

/* All signals are left to the program's own threads, for the reasons that reader.c gives. */
static void start(void)
{
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t thread;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_attr_init(&attr) == 0) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        started = pthread_create(&thread, &attr, run, NULL) == 0;
        pthread_attr_destroy(&attr);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool soon_run(SoonWork *work, void (*fn)(SoonWork *work))
{
    pthread_once(&start_once, start);
    if (!started) {
        return false;
    }
    lock_acquire(&soon_lock);
    work->fn = fn;
    work->next = NULL;
    *last = work;
    last = &work->next;
    pthread_cond_signal(&something);
    lock_release(&soon_lock);
    return true;
}
